import CSystem
import Glibc

/// An open folder, for work on what is below it when others can change that at any time: a service's
/// user in its own folder, or the names in a package.
///
/// Every operation begins at the folder's descriptor. The kernel resolves a path below it with
/// openat2(2), RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and RESOLVE_NO_MAGICLINKS (Linux 5.6): a symbolic
/// link in the path is an error and is never followed, and no path leads out of the folder, also not
/// when the owner exchanges names between two calls. Only ``init(_:)`` follows links.
///
/// Paths are relative, with one component or more. An empty component, `.` and `..` are EINVAL.
public struct Folder: Sendable {
    let file: File

    /// The path that it was opened by, for messages.
    public var path: String { file.path }

    var descriptor: Int32 { file.descriptor }

    /// Opens an existing folder. Links in this path are followed: only a trusted user may be able to
    /// change its components.
    ///
    /// - Throws: ``SystemError`` of open(2).
    public init(_ path: String) throws(SystemError) { file = try File(path, O_RDONLY | O_DIRECTORY) }

    init(_ file: File) { self.file = file }

    /// Opens a folder below this one.
    ///
    /// - Throws: ``SystemError`` of openat2(2): ELOOP where a component is a link, ENOTDIR where it is
    ///   a file.
    public func open(_ path: String) throws(SystemError) -> Folder { try openFolder(try checked(path)) }

    /// Opens a regular file for reading. It does not wait, as open(2) does for a named pipe.
    ///
    /// - Throws: ``SystemError`` of openat2(2): ELOOP for a link, EISDIR for a folder, EINVAL for
    ///   anything else that is not a regular file.
    public func openFile(_ path: String) throws(SystemError) -> File { try openFile(try checked(path)) }

    /// The status of what has this name, links not followed (fstatat(2)); nil where nothing has it, also
    /// because a component above it is a link or a file.
    public func status(_ path: String) throws(SystemError) -> stat? {
        guard let (folder, name) = try presentPlace(path) else { return nil }
        return try folder.status(name)
    }

    /// The names in this folder, sorted, without `.` and `..`.
    public func list() throws(SystemError) -> [String] { try names().map { Self.text($0) }.sorted() }

    /// Waits until the names in this folder are on the disk.
    public func sync() throws(SystemError) { try file.sync() }

    /// The text of a symbolic link (readlinkat(2)).
    public func linkTarget(_ path: String) throws(SystemError) -> String {
        let (folder, name) = try place(path)
        return Self.text(try folder.linkTarget(name))
    }

    // MARK: - Names

    // Names are bytes with a zero at the end, because a service may choose such that are not UTF-8.

    /// The attempts of an operation whose names another process exchanges meanwhile.
    struct Attempts: Sequence, IteratorProtocol {
        private var count = 0

        mutating func next() -> Int? {
            guard count < 100 else { return nil }
            // Both processes wait for the same lock of the kernel and may get it in turn, so that every
            // attempt meets the same names. A random pause ends that.
            if count > 3 { usleep(.random(in: 0..<1000)) }
            count += 1
            return count
        }
    }

    static func text(_ name: [CChar]) -> String {
        String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// A new name that removes itself after a crash (``removeLeftovers()``).
    static func temporaryName() -> [CChar] {
        Array("\(FileSystem.temporaryPrefix)\(String(UInt64.random(in: .min ... .max), radix: 16))".utf8CString)
    }

    func shown(_ name: [CChar]) -> String { path == "/" ? "/\(Self.text(name))" : "\(path)/\(Self.text(name))" }

    /// The components of a path.
    func components(_ path: String) throws(SystemError) -> [String] {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard parts.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." && !$0.utf8.contains(0) }) else {
            throw SystemError("openat2", "\(self.path)/\(path)", code: EINVAL)
        }
        return parts
    }

    private func checked(_ path: String) throws(SystemError) -> [CChar] {
        _ = try components(path)
        return Array(path.utf8CString)
    }

    /// The open folder above a path, and the path's last component.
    func place(_ path: String) throws(SystemError) -> (folder: Folder, name: [CChar]) {
        var parts = try components(path)
        let name = Array(parts.removeLast().utf8CString)
        return (parts.isEmpty ? self : try open(parts.joined(separator: "/")), name)
    }

    /// The same; nil where a component above is missing, or is a link or a file.
    func presentPlace(_ path: String) throws(SystemError) -> (folder: Folder, name: [CChar])? {
        do throws(SystemError) { return try place(path) } catch {
            guard Self.isAbsence(error.code) else { throw error }
            return nil
        }
    }

    /// Whether openat2(2) reports that there is no folder or file to open.
    static func isAbsence(_ code: Int32) -> Bool { code == ENOENT || code == ELOOP || code == ENOTDIR }

    // MARK: - Entries

    func openBeneath(_ name: [CChar], _ flags: Int32, mode: mode_t = 0) throws(SystemError) -> File {
        let descriptor = csystem_open_beneath(self.descriptor, name, flags, mode)
        guard descriptor >= 0 else { throw SystemError("openat2", shown(name)) }
        return File(descriptor: descriptor, path: shown(name))
    }

    func openFolder(_ name: [CChar]) throws(SystemError) -> Folder {
        Folder(try openBeneath(name, O_RDONLY | O_DIRECTORY))
    }

    /// Nil where no folder has the name (any more).
    func openPresentFolder(_ name: [CChar]) throws(SystemError) -> Folder? {
        do throws(SystemError) { return try openFolder(name) } catch {
            guard Self.isAbsence(error.code) else { throw error }
            return nil
        }
    }

    func openFile(_ name: [CChar]) throws(SystemError) -> File {
        let file = try openBeneath(name, O_RDONLY | O_NONBLOCK | O_NOCTTY)
        let kind = try file.status().st_mode & S_IFMT
        guard kind == S_IFREG else {
            throw SystemError("openat2", file.path, code: kind == S_IFDIR ? EISDIR : EINVAL)
        }
        return file
    }

    func status(_ name: [CChar]) throws(SystemError) -> stat? {
        var status = stat()
        if fstatat(descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0 { return status }
        guard errno == ENOENT else { throw SystemError("fstatat", shown(name)) }
        return nil
    }

    func linkTarget(_ name: [CChar]) throws(SystemError) -> [CChar] {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        let count = readlinkat(descriptor, name, &buffer, Int(PATH_MAX))
        guard count >= 0 else { throw SystemError("readlinkat", shown(name)) }
        return Array(buffer.prefix(count)) + [0]
    }

    /// All names but `.` and `..`, in the order of the file system.
    func names() throws(SystemError) -> [[CChar]] {
        // Opened anew, because a copy of the descriptor (dup(2)) has the same position in the list.
        let descriptor = csystem_open_beneath(self.descriptor, ".", O_RDONLY | O_DIRECTORY, 0)
        guard descriptor >= 0 else { throw SystemError("openat2", path) }
        guard let stream = fdopendir(descriptor) else {
            let error = SystemError("fdopendir", path)
            close(descriptor)
            throw error
        }
        defer { closedir(stream) }
        var names: [[CChar]] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else { break }
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                bytes.prefix { $0 != 0 }.map { CChar(bitPattern: $0) } + [0]
            }
            if Self.text(name) != ".", Self.text(name) != ".." { names.append(name) }
        }
        guard errno == 0 else { throw SystemError("readdir", path) }
        return names
    }
}
