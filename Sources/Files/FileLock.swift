import Glibc

/// A lock on a file (flock(2)) that tells which process it waits for. It is released with its last
/// reference, or with the process, however that ends.
public final class FileLock: Sendable {
    public enum Kind: Sendable {
        /// Any number of holders at a time.
        case shared
        /// One holder, and no shared ones.
        case exclusive
    }

    /// A process that holds the lock.
    public struct Holder: Sendable, Hashable {
        /// Nil where the kernel doesn't show it, as for a process of another PID namespace.
        public var pid: pid_t?
        /// Its command line, shortened; empty when unknown.
        public var command: String

        /// Such as `process 812 (vcpe build branch-office)`.
        public var text: String {
            guard let pid else { return "another process" }
            return "process \(pid)" + (command.isEmpty ? "" : " (\(command))")
        }
    }

    private let file: File

    /// Waits until the lock is free.
    ///
    /// - Parameters:
    ///   - path: is made when it doesn't exist.
    ///   - waiting: called once, and only when another process holds the lock.
    public init(_ path: String, _ kind: Kind, waiting: (Holder) -> Void) throws(SystemError) {
        // A shared holder may be a user who can only read the file.
        if let file = try? File(path, O_RDWR | O_CREAT) { self.file = file } else { file = try File(path) }
        let operation = kind == .shared ? LOCK_SH : LOCK_EX
        if flock(file.descriptor, operation | LOCK_NB) == 0 { return }
        guard errno == EWOULDBLOCK || errno == EINTR else { throw SystemError("flock", path) }
        waiting(Self.holder(of: file))
        while flock(file.descriptor, operation) != 0 {
            guard errno == EINTR else { throw SystemError("flock", path) }
        }
    }

    /// From /proc/locks (proc_locks(5)): `1: FLOCK ADVISORY WRITE 812 08:01:131 0 EOF`.
    private static func holder(of file: File) -> Holder {
        let unknown = Holder(pid: nil, command: "")
        guard let inode = try? file.status().st_ino, let locks = try? File("/proc/locks").read(1 << 20, at: 0) else {
            return unknown
        }
        for line in String(decoding: locks, as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count >= 6, words[1] == "FLOCK", let pid = pid_t(words[4]), pid > 0,
                words[5].split(separator: ":").last.flatMap({ UInt64($0) }) == UInt64(inode)
            else { continue }
            let bytes = (try? File("/proc/\(pid)/cmdline").read(4096, at: 0)) ?? []
            var arguments = bytes.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
            if let program = arguments.first { arguments[0] = FileSystem.name(of: program) }
            return Holder(pid: pid, command: String(arguments.joined(separator: " ").prefix(80)))
        }
        return unknown
    }
}
