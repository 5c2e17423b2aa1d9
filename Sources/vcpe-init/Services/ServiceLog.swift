import CSystem
import Glibc

/// The output of a service: read from a pipe and kept in a file on /run, of bounded size. The pipe
/// is PID 1's, so that no service can fill the memory, and the file outlives its readers.
struct ServiceLog {
    static let folder = "/run/log"
    /// Bytes of the file; what it held before is kept once more as `NAME.1`.
    private static let limit = 256 << 10

    private let path: String
    private var size = 0

    init(_ name: String) {
        path = "\(Self.folder)/\(name)"
        var status = stat()
        if stat(path, &status) == 0 { size = Int(status.st_size) }
    }

    /// Takes what is in the pipe, up to a bound: others have their turn, too.
    ///
    /// - Returns: false at the pipe's end.
    mutating func take(from pipe: Int32) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 1 << 15)
        for _ in 0..<2 {
            let count = read(pipe, &buffer, buffer.count)
            if count == 0 { return false }
            if count < 0 { return errno == EAGAIN || errno == EINTR }
            append(buffer[..<count])
        }
        return true
    }

    mutating func append(_ bytes: ArraySlice<UInt8>) {
        if size + bytes.count > Self.limit {
            rename(path, path + ".1")
            size = 0
        }
        let file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o640)
        guard file >= 0 else { return }
        defer { close(file) }
        let written = bytes.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
        if written > 0 { size += written }
    }
}
