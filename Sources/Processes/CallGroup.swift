import Files
import Glibc
import Synchronization

/// A cgroup (version 2) for one call of a program, beside the run of the service that this process
/// is.
///
/// It bounds the memory and the processes of all that the program starts, together; resource limits
/// (setrlimit(2)) count by process and by user.
final class CallGroup: Sendable {
    /// The open folder, which a process is cloned into.
    let file: File

    private static let mount = "/sys/fs/cgroup"
    /// Numbers of this process's calls.
    private static let calls = Mutex(0)

    /// Makes a group.
    ///
    /// - Parameters:
    ///   - memory: bytes, without any swap.
    ///   - processes: and threads.
    /// - Returns: nil where PID 1 of a box has not put this process into a group of a service, or
    ///   where that group is read-only.
    static func make(memory: UInt64, processes: UInt64) throws(SystemError) -> CallGroup? {
        guard let bytes = try? File("/proc/self/cgroup").read(4096, at: 0),
            let service = service(of: String(decoding: bytes, as: UTF8.self))
        else { return nil }
        return try make(in: "\(mount)/\(service)", memory: memory, processes: processes)
    }

    /// The group of the service whose run a process belongs to (proc_pid_cgroup(5)):
    /// `services/NAME` of `0::/services/NAME/run-…`.
    static func service(of text: String) -> String? {
        for line in text.split(separator: "\n") where line.hasPrefix("0::/") {
            let parts = line.dropFirst(4).split(separator: "/", omittingEmptySubsequences: false)
            guard parts.count == 3, parts[0] == "services", parts[2].hasPrefix("run-") else { return nil }
            return "services/\(parts[1])"
        }
        return nil
    }

    /// - Parameter folder: the service's group. It has no process of its own: those are in a run's.
    static func make(in folder: String, memory: UInt64, processes: UInt64) throws(SystemError) -> CallGroup? {
        let number = calls.withLock { number in
            number += 1
            return number
        }
        if number == 1 { removeLeftovers(in: folder) }
        let path = "\(folder)/call-\(getpid())-\(number)"
        guard mkdir(path, 0o755) == 0 else {
            if [EROFS, EACCES, EPERM, ENOENT].contains(errno) { return nil }
            throw SystemError("mkdir", path)
        }
        do throws(SystemError) {
            let file = try File(path, O_RDONLY | O_DIRECTORY)
            for (controller, limits) in [
                ("memory", [("memory.max", memory), ("memory.swap.max", 0), ("memory.oom.group", 1)]),
                ("pids", [("pids.max", processes)]),
            ] {
                if !FileSystem.exists("\(path)/\(limits[0].0)") {
                    // A kernel without the controller refuses it, and has none of the files.
                    try? write("+\(controller)", to: "\(folder)/cgroup.subtree_control")
                }
                for (name, value) in limits where FileSystem.exists("\(path)/\(name)") {
                    try write("\(value)", to: "\(path)/\(name)")
                }
            }
            return CallGroup(file)
        } catch {
            rmdir(path)
            throw error
        }
    }

    private init(_ file: File) { self.file = file }

    /// The program is gone, and with it all of its PID namespace.
    deinit { rmdir(file.path) }

    private static func write(_ text: String, to path: String) throws(SystemError) {
        try File(path, O_WRONLY).write(Array(text.utf8), at: 0)
    }

    /// Removes the groups of processes that were killed.
    private static func removeLeftovers(in folder: String) {
        for name in (try? FileSystem.list(folder)) ?? [] where name.hasPrefix("call-") {
            guard let pid = pid_t(name.dropFirst(5).prefix { $0 != "-" }), kill(pid, 0) != 0, errno == ESRCH else {
                continue
            }
            rmdir("\(folder)/\(name)")
        }
    }
}
