import CSystem
import Glibc

extension Folder {
    /// Makes a folder and those above it; existing ones stay. Those that it makes have the owner of this
    /// process and the mode 0755, the last one the attributes given.
    ///
    /// - Parameters:
    ///   - attributes: of the last folder, also of an existing one.
    ///   - replacing: whether a link, file, named pipe or socket that has the name of one of the folders
    ///     is removed. Otherwise it is an error.
    /// - Throws: ``SystemError`` of mkdirat(2), openat2(2) (ELOOP for a link, ENOTDIR for a file),
    ///   fchown(2) or fchmod(2).
    @discardableResult
    public func makeDirectory(
        _ path: String, _ attributes: FileAttributes? = nil, replacing: Bool = false
    ) throws(SystemError) -> Folder {
        var folder = self
        let parts = try components(path)
        for (index, part) in parts.enumerated() {
            // One with attributes of its own stays at 0700 until it has them.
            let hasOwn = index == parts.count - 1 && attributes != nil
            folder = try folder.makeDirectory(
                Array(part.utf8CString), mode: hasOwn ? nil : 0o755, replacing: replacing)
        }
        if let attributes { try folder.file.set(attributes) }
        return folder
    }

    private func makeDirectory(_ name: [CChar], mode: mode_t?, replacing: Bool) throws(SystemError) -> Folder {
        var code = ELOOP
        for _ in Attempts() {
            let isNew = mkdirat(descriptor, name, 0o700) == 0
            guard isNew || errno == EEXIST else { throw SystemError("mkdirat", shown(name)) }
            do throws(SystemError) {
                let folder = try openFolder(name)
                if isNew, let mode, fchmod(folder.descriptor, mode) != 0 { throw SystemError("fchmod", shown(name)) }
                return folder
            } catch {
                code = error.code
                guard code == ENOENT || replacing && (code == ELOOP || code == ENOTDIR) else { throw error }
            }
            // This call removes no folder, and a folder that has the name by now is what is needed.
            guard code == ENOENT || unlinkat(descriptor, name, 0) == 0 || errno == ENOENT || errno == EISDIR else {
                throw SystemError("unlinkat", shown(name))
            }
        }
        throw SystemError("openat2", shown(name), code: code)
    }

    /// Writes a file whole or not at all: under a temporary name beside it, synced, then renamed; at last
    /// the folder is synced. It replaces whatever has the name, also a link, and a folder with everything
    /// in it.
    ///
    /// - Parameter attributes: whatever the umask.
    /// - Throws: ``SystemError`` of openat2(2), pwrite(2), fchown(2), fchmod(2), fsync(2) or rename(2).
    public func replace(_ path: String, with bytes: [UInt8], _ attributes: FileAttributes) throws(SystemError) {
        let (folder, name) = try place(path)
        for _ in Attempts() {
            let temporary = Self.temporaryName()
            do throws(SystemError) {
                let file = try folder.openBeneath(temporary, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
                try file.write(bytes, at: 0)
                try file.set(attributes)
                try file.sync()
                if try folder.move(temporary, over: name) { return try folder.sync() }
                try folder.remove(temporary)
            } catch {
                try? folder.remove(temporary)
                throw error
            }
        }
        throw SystemError("renameat", folder.shown(name), code: EAGAIN)
    }

    /// - Returns: false when another process has exchanged one of the names.
    private func move(_ temporary: [CChar], over name: [CChar]) throws(SystemError) -> Bool {
        if renameat(descriptor, temporary, descriptor, name) == 0 { return true }
        if errno == EISDIR {
            // The file has its name before the folder goes.
            if csystem_exchange(descriptor, temporary, name) == 0 {
                // The file is in place. What a service keeps filling meanwhile is left for the next start.
                try? remove(temporary)
                return true
            }
        }
        guard Self.isAbsence(errno) else { throw SystemError("renameat", shown(name)) }
        return false
    }

    /// Makes a new file and opens it for writing.
    ///
    /// - Parameter mode: permission bits, whatever the umask.
    /// - Throws: ``SystemError`` of openat2(2) or fchmod(2): EEXIST where anything has the name.
    public func create(_ path: String, mode: mode_t) throws(SystemError) -> File {
        let (folder, name) = try place(path)
        let file = try folder.openBeneath(name, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
        guard fchmod(file.descriptor, mode) == 0 else { throw SystemError("fchmod", file.path) }
        return file
    }

    /// Makes a symbolic link; its target is only text here.
    ///
    /// - Throws: ``SystemError`` of symlinkat(2): EEXIST where anything has the name.
    public func link(_ path: String, to target: String) throws(SystemError) {
        let (folder, name) = try place(path)
        guard symlinkat(target, folder.descriptor, name) == 0 else {
            throw SystemError("symlinkat", folder.shown(name))
        }
    }

    /// Gives the regular file at `target`, a path in this folder, another name.
    ///
    /// - Throws: ``SystemError`` of linkat(2): EEXIST where anything has the name, EINVAL for a target that
    ///   is not a regular file.
    public func hardLink(_ path: String, to target: String) throws(SystemError) {
        let (source, sourceName) = try place(target)
        guard let status = try source.status(sourceName) else {
            throw SystemError("linkat", source.shown(sourceName), code: ENOENT)
        }
        // A link to a link or a device would be opened later.
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw SystemError("linkat", source.shown(sourceName), code: EINVAL)
        }
        let (folder, name) = try place(path)
        guard linkat(source.descriptor, sourceName, folder.descriptor, name, 0) == 0 else {
            throw SystemError("linkat", folder.shown(name))
        }
    }

    /// Gives a file or folder another name in this folder, and syncs both folders.
    ///
    /// - Throws: ``SystemError`` of rename(2): ENOTEMPTY or EEXIST where `target` is a folder that is not
    ///   empty.
    public func rename(_ path: String, to target: String) throws(SystemError) {
        let (source, name) = try place(path)
        let (folder, newName) = try place(target)
        guard renameat(source.descriptor, name, folder.descriptor, newName) == 0 else {
            throw SystemError("renameat", "\(source.shown(name)) → \(folder.shown(newName))")
        }
        try folder.sync()
        try source.sync()
    }

    /// Removes the name of a file, link, named pipe or socket; a missing one is fine.
    ///
    /// - Throws: ``SystemError`` of unlinkat(2): EISDIR for a folder.
    public func unlink(_ path: String) throws(SystemError) {
        guard let (folder, name) = try presentPlace(path) else { return }
        guard unlinkat(folder.descriptor, name, 0) == 0 || errno == ENOENT else {
            throw SystemError("unlinkat", folder.shown(name))
        }
    }

    /// Removes a folder in which nothing is; anything else stays.
    ///
    /// - Throws: ``SystemError`` of unlinkat(2), such as EROFS.
    public func removeEmptyDirectory(_ path: String) throws(SystemError) {
        guard let (folder, name) = try presentPlace(path) else { return }
        guard unlinkat(folder.descriptor, name, AT_REMOVEDIR) != 0 else { return }
        guard Self.isAbsence(errno) || errno == ENOTEMPTY || errno == EEXIST else {
            throw SystemError("unlinkat", folder.shown(name))
        }
    }
}
