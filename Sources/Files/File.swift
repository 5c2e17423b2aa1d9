import CSystem
import Glibc

/// An open file; closed when the last reference goes. Every descriptor is close-on-exec.
public final class File: Sendable {
    public let descriptor: Int32
    public let path: String

    /// Takes over a descriptor that is already open.
    public init(descriptor: Int32, path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    /// Opens `path` by `open(2)`; `O_CLOEXEC` is always added.
    public convenience init(_ path: String, _ flags: Int32 = O_RDONLY, mode: mode_t = 0o644) throws(SystemError) {
        let descriptor = open(path, flags | O_CLOEXEC, mode)
        guard descriptor >= 0 else { throw SystemError("open", path) }
        self.init(descriptor: descriptor, path: path)
    }

    deinit { close(descriptor) }

    /// A file without a name that holds `bytes`; it is gone with its last descriptor.
    public static func temporary(holding bytes: [UInt8]) throws(SystemError) -> File {
        let descriptor = csystem_memory_file("input")
        guard descriptor >= 0 else { throw SystemError("memfd_create", "") }
        let file = File(descriptor: descriptor, path: "(memory)")
        try file.write(bytes, at: 0)
        return file
    }

    /// What `fstat(2)` says.
    public func status() throws(SystemError) -> stat {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw SystemError("fstat", path) }
        return status
    }

    /// Bytes; of a device too.
    public func size() throws(SystemError) -> Int {
        let end = lseek(descriptor, 0, SEEK_END)
        guard end >= 0 else { throw SystemError("lseek", path) }
        return Int(end)
    }

    /// Writes all of `bytes` at `offset` (bytes from the start), however many calls that takes.
    public func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(SystemError) {
        var done = 0
        while done < bytes.count {
            let count = pwrite(
                descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done, off_t(offset + done))
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw SystemError("pwrite", path) }
            done += count
        }
    }

    /// Writes all of `bytes` at `offset` (bytes from the start).
    public func write(_ bytes: [UInt8], at offset: Int) throws(SystemError) {
        let result: Result<Void, SystemError> = bytes.withUnsafeBytes { buffer in
            Result { () throws(SystemError) in try write(buffer, at: offset) }
        }
        try result.get()
    }

    /// Writes all of `bytes` where the descriptor stands: to a pipe, or behind what was written before.
    public func append(_ bytes: [UInt8]) throws(SystemError) {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress.map { $0 + done }, $0.count - done)
            }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw SystemError("write", path) }
            done += count
        }
    }

    /// Reads up to `count` bytes from `offset`; fewer only at the end of the file.
    public func read(_ count: Int, at offset: Int) throws(SystemError) -> [UInt8] {
        var failure: SystemError?
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            filled = 0
            while filled < count {
                let got = pread(
                    descriptor, buffer.baseAddress.map { $0 + filled }, count - filled, off_t(offset + filled))
                if got < 0, errno == EINTR { continue }
                if got < 0 { failure = SystemError("pread", path) }
                if got <= 0 { return }
                filled += got
            }
        }
        if let failure { throw failure }
        return bytes
    }

    /// All bytes of a regular file.
    public func readAll() throws(SystemError) -> [UInt8] { try read(Int(try status().st_size), at: 0) }

    /// Reads the whole file a MiB at a time, however large it is.
    ///
    /// - Returns: its bytes' number.
    @discardableResult public func readPieces(_ body: ([UInt8]) -> Void) throws(SystemError) -> Int {
        var offset = 0
        while true {
            let bytes = try read(1 << 20, at: offset)
            if bytes.isEmpty { return offset }
            body(bytes)
            offset += bytes.count
        }
    }

    /// Copies `count` bytes from `offset` of another file to `target` here, inside the kernel where it can.
    public func copy(from source: File, at offset: Int, count: Int, to target: Int) throws(SystemError) {
        var from = off_t(offset)
        var to = off_t(target)
        var left = count
        while left > 0 {
            let copied = csystem_copy_file_range(source.descriptor, &from, descriptor, &to, left)
            if copied < 0, errno == EINTR { continue }
            if copied < 0, [EXDEV, EINVAL, ENOSYS, EOPNOTSUPP].contains(errno) {
                let bytes = try source.read(min(left, 1 << 20), at: Int(from))
                guard !bytes.isEmpty else { throw SystemError("read", source.path, code: ENODATA) }
                try write(bytes, at: Int(to))
                from += off_t(bytes.count)
                to += off_t(bytes.count)
                left -= bytes.count
                continue
            }
            guard copied > 0 else { throw SystemError("copy_file_range", path, code: copied == 0 ? ENODATA : errno) }
            left -= copied
        }
    }

    /// Sets the length in bytes; a longer file gets a hole.
    public func resize(to length: Int) throws(SystemError) {
        guard ftruncate(descriptor, off_t(length)) == 0 else { throw SystemError("ftruncate", path) }
    }

    /// Waits until the file system that it is on is on its disk, with all in it.
    public func syncFileSystem() throws(SystemError) {
        guard csystem_sync_filesystem(descriptor) == 0 else { throw SystemError("syncfs", path) }
    }

    /// Waits until the contents are on the disk.
    public func sync() throws(SystemError) {
        guard fsync(descriptor) == 0 else { throw SystemError("fsync", path) }
    }
}
