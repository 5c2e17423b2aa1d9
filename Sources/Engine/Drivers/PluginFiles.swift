import Files
import Glibc
import PluginKit

/// Files and directories of plugins, below /run/vcpe and /data only: /etc is the image's, with links
/// to there.
///
/// The user of a service may own directories on these paths, and may exchange what lies in them at any
/// time. Only the first component is root's. So all work goes through ``Folder``, which follows no link,
/// and a thing of the wrong kind at a planned place is replaced: otherwise a service could make every
/// later commit fail.
struct PluginFiles {
    let places: Places

    /// Where a path of a plan is.
    struct Location: Hashable {
        /// A directory in which only root can change names.
        var root: String
        /// The path below it.
        var path: String

        /// - Throws: ``SystemError`` with ENOENT when the root does not exist.
        func folder() throws(SystemError) -> Folder { try Folder(root) }
    }

    /// Nil for a path that is not a plugin's to write.
    func location(_ path: String) -> Location? {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.first == "", !parts.dropFirst().contains(where: { $0.isEmpty || $0 == "." || $0 == ".." }) else {
            return nil
        }
        if path.hasPrefix("/run/vcpe/") {
            return Location(root: places.run, path: parts.dropFirst(3).joined(separator: "/"))
        }
        if path.hasPrefix("/data/"), parts[2] != "vcpe" {
            return Location(root: places.data, path: parts.dropFirst(2).joined(separator: "/"))
        }
        return nil
    }

    private func checked(_ path: String) throws -> Location {
        guard let location = location(path) else {
            throw EngineError("\(path): plugins write below /run/vcpe/NAME and /data/NAME only")
        }
        return location
    }

    private func attributes(_ owner: String, _ mode: Int) throws -> FileAttributes {
        guard let entry = getpwnam(owner) else { throw EngineError("there is no user \(owner)") }
        return FileAttributes(user: entry.pointee.pw_uid, group: entry.pointee.pw_gid, mode: mode_t(mode))
    }

    func isDirectory(_ path: String, owner: String, mode: Int) throws -> Bool {
        let (location, wanted) = (try checked(path), try attributes(owner, mode))
        guard let status = try location.folder().status(location.path) else { return false }
        return status.st_mode & S_IFMT == S_IFDIR && FileAttributes(status) == wanted
    }

    func isFile(_ path: String, content: String, owner: String, mode: Int) throws -> Bool {
        let location = try checked(path)
        guard let file = try? location.folder().openFile(location.path) else { return false }
        let status = try file.status()
        // The length first: a service may have made the file larger than memory.
        guard FileAttributes(status) == (try attributes(owner, mode)), Int(status.st_size) == content.utf8.count else {
            return false
        }
        return try file.read(content.utf8.count, at: 0) == Array(content.utf8)
    }

    /// Makes a directory, and those above it, that is not there as it should be.
    func makeDirectory(_ path: String, owner: String, mode: Int) throws {
        let location = try checked(path)
        let attributes = try attributes(owner, mode)
        try FileSystem.makeDirectory(location.root)
        try location.folder().makeDirectory(location.path, attributes, replacing: true)
    }

    /// Writes a file, and makes the directories above it, that is not there as it should be.
    func write(_ path: String, content: String, owner: String, mode: Int) throws {
        if try isFile(path, content: content, owner: owner, mode: mode) { return }
        let location = try checked(path)
        let attributes = try attributes(owner, mode)
        try FileSystem.makeDirectory(location.root)
        var folder = try location.folder()
        if let parent = FileSystem.parent(of: location.path) {
            folder = try folder.makeDirectory(parent, replacing: true)
        }
        try folder.replace(FileSystem.name(of: location.path), with: Array(content.utf8), attributes)
    }

    /// What a service has written to a file, up to a number of bytes; nil where there is nothing.
    ///
    /// - Throws: for anything but a regular file.
    func read(_ path: String, most: Int) throws -> [UInt8]? {
        let location = try checked(path)
        guard FileSystem.exists(location.root), try location.folder().status(location.path) != nil else { return nil }
        let file = try location.folder().openFile(location.path)
        return try file.read(min(Int(try file.status().st_size), most), at: 0)
    }

    /// Removes everything in a directory; anything else in its place stays.
    func purge(_ path: String) throws {
        let location = try checked(path)
        guard FileSystem.exists(location.root), let status = try location.folder().status(location.path),
            status.st_mode & S_IFMT == S_IFDIR
        else { return }
        try location.folder().open(location.path).empty()
    }

    /// Removes unfinished files beside the files of a plan.
    func removeLeftovers(of files: [FileResource]) throws {
        let folders = files.compactMap { file -> Location? in
            guard var location = location(file.path) else { return nil }
            location.path = FileSystem.parent(of: location.path) ?? ""
            return location
        }
        for location in Set(folders) {
            // A service may have removed the directory, or put something else there.
            guard let root = try? location.folder(),
                let folder = location.path.isEmpty ? root : try? root.open(location.path)
            else { continue }
            try folder.removeLeftovers()
        }
    }

    /// Removes a file, or what has its place.
    func removeFile(_ path: String) throws {
        let location = try checked(path)
        guard FileSystem.exists(location.root) else { return }
        try location.folder().remove(location.path)
    }

    /// Removes a directory when nothing is in it any more.
    func removeDirectory(_ path: String) throws {
        let location = try checked(path)
        guard FileSystem.exists(location.root) else { return }
        try location.folder().removeEmptyDirectory(location.path)
    }
}
