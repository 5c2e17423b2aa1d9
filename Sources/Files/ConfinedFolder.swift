import CSystem
import Glibc

/// A folder into which names of unknown origin are written, such as those of a package.
///
/// No path leaves it: a component that is a symbolic link is an error (openat2(2), RESOLVE_BENEATH
/// and RESOLVE_NO_SYMLINKS), whatever an earlier name has put there.
public struct ConfinedFolder: Sendable {
    private let folder: File

    /// Opens an existing folder.
    public init(_ path: String) throws(SystemError) {
        folder = try File(path, O_RDONLY | O_DIRECTORY)
    }

    /// Makes a folder and those above it; existing ones stay.
    ///
    /// - Parameter path: relative, without `..`.
    /// - Throws: ``SystemError`` with ELOOP or ENOTDIR where a component is a link or a file.
    public func makeDirectory(_ path: String) throws(SystemError) { _ = try open(path, makes: true) }

    /// Writes a new file; a file or link of that name is removed first, and never written through.
    ///
    /// - Parameter mode: permission bits.
    public func write(_ bytes: [UInt8], to path: String, mode: mode_t) throws(SystemError) {
        let (parent, name) = try place(path)
        try remove(name, in: parent, path)
        let flags = O_WRONLY | O_CREAT | O_EXCL
        let descriptor = csystem_open_beneath(parent.descriptor, name, flags, mode)
        guard descriptor >= 0 else { throw SystemError("openat2", shown(path)) }
        let file = File(descriptor: descriptor, path: shown(path))
        // The mode is the archive's, whatever the umask of this process.
        guard fchmod(descriptor, mode) == 0 else { throw SystemError("fchmod", shown(path)) }
        try file.write(bytes, at: 0)
    }

    /// Makes a symbolic link; its target is only text here.
    public func link(_ path: String, to target: String) throws(SystemError) {
        let (parent, name) = try place(path)
        try remove(name, in: parent, path)
        guard symlinkat(target, parent.descriptor, name) == 0 else { throw SystemError("symlinkat", shown(path)) }
    }

    /// Gives the regular file at `target`, a path in this folder, another name.
    public func hardLink(_ path: String, to target: String) throws(SystemError) {
        let (source, sourceName) = try place(target)
        var status = stat()
        guard fstatat(source.descriptor, sourceName, &status, AT_SYMLINK_NOFOLLOW) == 0 else {
            throw SystemError("fstatat", shown(target))
        }
        // A link to a link or a device would be opened later.
        guard status.st_mode & S_IFMT == S_IFREG else { throw SystemError("linkat", shown(target), code: EINVAL) }
        let (parent, name) = try place(path)
        try remove(name, in: parent, path)
        guard linkat(source.descriptor, sourceName, parent.descriptor, name, 0) == 0 else {
            throw SystemError("linkat", shown(path))
        }
    }

    private func shown(_ path: String) -> String { "\(folder.path)/\(path)" }

    /// The open folder above a path, and the path's last component.
    private func place(_ path: String) throws(SystemError) -> (File, String) {
        let name = FileSystem.name(of: path)
        guard !name.isEmpty, name != ".", name != ".." else { throw SystemError("openat2", shown(path), code: EINVAL) }
        return (try open(FileSystem.parent(of: path) ?? "", makes: true), name)
    }

    private func open(_ path: String, makes: Bool) throws(SystemError) -> File {
        var current = folder
        for part in path.split(separator: "/") {
            let name = String(part)
            let isNew = makes && mkdirat(current.descriptor, name, 0o755) == 0
            guard isNew || !makes || errno == EEXIST else { throw SystemError("mkdirat", shown(path)) }
            let next = csystem_open_beneath(current.descriptor, name, O_RDONLY | O_DIRECTORY, 0)
            guard next >= 0 else { throw SystemError("openat2", shown(path)) }
            current = File(descriptor: next, path: shown(path))
            guard !isNew || fchmod(next, 0o755) == 0 else { throw SystemError("fchmod", shown(path)) }
        }
        return current
    }

    private func remove(_ name: String, in parent: File, _ path: String) throws(SystemError) {
        guard unlinkat(parent.descriptor, name, 0) == 0 || errno == ENOENT else {
            throw SystemError("unlinkat", shown(path))
        }
    }
}
