import Glibc

/// Folders with everything in them.
extension Folder {
    /// Removes a file, or a folder with everything in it; a missing one is fine. It does not follow links,
    /// and it goes on where another process exchanges names meanwhile.
    ///
    /// - Throws: ``SystemError`` of unlinkat(2) or openat2(2): ENOTEMPTY where another process fills a folder
    ///   faster than this one empties it.
    public func remove(_ path: String) throws(SystemError) {
        guard let (folder, name) = try presentPlace(path) else { return }
        try folder.remove(name)
    }

    func remove(_ name: [CChar]) throws(SystemError) {
        var removal = TreeRemoval()
        try removal.remove(name, from: self)
    }

    /// Removes everything in this folder.
    ///
    /// - Throws: as ``remove(_:)``.
    public func empty() throws(SystemError) {
        var removal = TreeRemoval()
        try removal.empty(self)
    }

    /// Removes what killed processes left in this folder: files and folders under temporary names.
    ///
    /// - Throws: as ``remove(_:)``.
    public func removeLeftovers() throws(SystemError) {
        for name in try names() where Self.text(name).hasPrefix(FileSystem.temporaryPrefix) { try remove(name) }
    }

    /// Folders within each other that are copied or measured: two descriptors are open for each.
    static let mostLevels = 128

    /// Copies a file, a link, or a folder with everything in it. Owners, permission bits and times are the
    /// same; sockets, named pipes, devices and extended attributes are left out.
    ///
    /// - Parameters:
    ///   - target: the folder that gets the copy.
    ///   - newPath: the copy's path there; nothing may have it.
    /// - Throws: ``SystemError`` of the call that failed: ENAMETOOLONG for more than 128 folders within each
    ///   other.
    public func copy(_ path: String, to target: Folder, as newPath: String) throws(SystemError) {
        let (folder, name) = try place(path)
        let (parent, newName) = try target.place(newPath)
        guard try folder.copy(name, to: parent, as: newName) else {
            throw SystemError("fstatat", folder.shown(name), code: ENOENT)
        }
    }

    /// - Returns: false when nothing has the name (any more).
    private func copy(
        _ name: [CChar], to target: Folder, as newName: [CChar], level: Int = 0
    ) throws(SystemError) -> Bool {
        guard let status = try status(name) else { return false }
        switch status.st_mode & S_IFMT {
        case S_IFDIR:
            guard level < Self.mostLevels else { throw SystemError("openat2", shown(name), code: ENAMETOOLONG) }
            let source = try openFolder(name)
            guard mkdirat(target.descriptor, newName, 0o700) == 0 else {
                throw SystemError("mkdirat", target.shown(newName))
            }
            let made = try target.openFolder(newName)
            for name in try source.names() { _ = try source.copy(name, to: made, as: name, level: level + 1) }
            try made.file.setAttributesAndTimes(of: source.file.status())
        case S_IFREG:
            let source = try openFile(name)
            let status = try source.status()
            let made = try target.openBeneath(newName, O_RDWR | O_CREAT | O_EXCL, mode: 0o600)
            try made.copy(from: source, at: 0, count: Int(status.st_size), to: 0)
            try made.setAttributesAndTimes(of: status)
        case S_IFLNK:
            guard symlinkat(try linkTarget(name), target.descriptor, newName) == 0 else {
                throw SystemError("symlinkat", target.shown(newName))
            }
            let (user, group) = (status.st_uid, status.st_gid)
            guard fchownat(target.descriptor, newName, user, group, AT_SYMLINK_NOFOLLOW) == 0 else {
                throw SystemError("fchownat", target.shown(newName))
            }
        default: break
        }
        return true
    }

    /// Bytes that a copy of a file or a folder may take. Names that disappear meanwhile do not count.
    ///
    /// - Throws: ``SystemError`` of fstatat(2) or openat2(2): ENAMETOOLONG for more than 128 folders within
    ///   each other.
    public func size(of path: String) throws(SystemError) -> Int {
        guard let (folder, name) = try presentPlace(path) else { return 0 }
        return try folder.size(of: name)
    }

    private func size(of name: [CChar], level: Int = 0) throws(SystemError) -> Int {
        guard let status = try status(name) else { return 0 }
        // A copy has no holes: sparse files count whole, and a sum beyond all disks stays there.
        var size = max(Int(status.st_size), Int(status.st_blocks) * 512)
        guard status.st_mode & S_IFMT == S_IFDIR else { return size }
        guard level < Self.mostLevels else { throw SystemError("openat2", shown(name), code: ENAMETOOLONG) }
        guard let folder = try openPresentFolder(name) else { return size }
        for name in try folder.names() {
            let (sum, isTooMuch) = size.addingReportingOverflow(try folder.size(of: name, level: level + 1))
            size = isTooMuch ? .max : sum
        }
        return size
    }
}

extension File {
    fileprivate func setAttributesAndTimes(of status: stat) throws(SystemError) {
        try set(FileAttributes(status))
        guard futimens(descriptor, [status.st_atim, status.st_mtim]) == 0 else { throw SystemError("futimens", path) }
    }
}

/// The removal of one tree, in which others may exchange names, add files, and nest folders without end.
private struct TreeRemoval {
    /// Folders within each other that are open at a time.
    private static let mostOpen = 32
    /// Folders that are moved up, so that a service which goes on nesting them cannot keep root busy for ever.
    private static let mostMoved = 1 << 16

    /// The folder that the tree begins with. It gets the folders that lie too deep.
    private var top: Folder?
    private var moved: [[CChar]] = []
    private var moves = 0

    mutating func empty(_ folder: Folder) throws(SystemError) {
        top = folder
        for name in try folder.names() { try remove(name, from: folder, level: 1) }
        while let name = moved.popLast() { try remove(name, from: folder, level: 1) }
    }

    mutating func remove(_ name: [CChar], from folder: Folder, level: Int = 0) throws(SystemError) {
        for _ in Folder.Attempts() {
            if unlinkat(folder.descriptor, name, 0) == 0 || errno == ENOENT { return }
            guard errno == EISDIR else { throw SystemError("unlinkat", folder.shown(name)) }
            if unlinkat(folder.descriptor, name, AT_REMOVEDIR) == 0 || errno == ENOENT { return }
            guard errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR else {
                throw SystemError("unlinkat", folder.shown(name))
            }
            if level == Self.mostOpen { return try moveUp(name, from: folder) }
            // Nothing to open means that the name was exchanged since.
            guard let inner = try folder.openPresentFolder(name) else { continue }
            if level == 0 {
                try empty(inner)
            } else {
                for name in try inner.names() { try remove(name, from: inner, level: level + 1) }
            }
        }
        throw SystemError("unlinkat", folder.shown(name), code: ENOTEMPTY)
    }

    private mutating func moveUp(_ name: [CChar], from folder: Folder) throws(SystemError) {
        guard let top, moves < Self.mostMoved else {
            throw SystemError("renameat", folder.shown(name), code: ENOTEMPTY)
        }
        moves += 1
        let newName = Folder.temporaryName()
        if renameat(folder.descriptor, name, top.descriptor, newName) == 0 { return moved.append(newName) }
        guard errno == ENOENT else { throw SystemError("renameat", folder.shown(name)) }
    }
}
