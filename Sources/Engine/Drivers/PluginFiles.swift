import Files
import Glibc
import PluginKit

/// Files and directories of plugins, below /run/vcpe and /data only: /etc is the image's, with links
/// to there.
struct PluginFiles {
    let places: Places

    /// Where a path of a plan lies; nil for one that is not a plugin's to write.
    func place(_ path: String) -> String? {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.first == "", !parts.dropFirst().contains(where: { $0.isEmpty || $0 == "." || $0 == ".." }) else {
            return nil
        }
        if path.hasPrefix("/run/vcpe/"), parts.count > 3 { return places.run + path.dropFirst("/run/vcpe".count) }
        if path.hasPrefix("/data/"), parts.count > 2, parts[2] != "vcpe" {
            return places.data + path.dropFirst("/data".count)
        }
        return nil
    }

    private func checked(_ path: String) throws -> String {
        guard let place = place(path) else {
            throw EngineError("\(path): plugins write below /run/vcpe/NAME and /data/NAME only")
        }
        return place
    }

    private func user(_ name: String) throws -> (uid: uid_t, gid: gid_t) {
        guard let entry = getpwnam(name) else { throw EngineError("there is no user \(name)") }
        return (entry.pointee.pw_uid, entry.pointee.pw_gid)
    }

    /// Who something belongs to, and how it may be used.
    private struct Attributes: Equatable {
        var (uid, gid): (uid_t, gid_t)
        var mode: mode_t
    }

    private func attributes(_ owner: String, _ mode: Int) throws -> Attributes {
        let (uid, gid) = try user(owner)
        return Attributes(uid: uid, gid: gid, mode: mode_t(mode))
    }

    /// Of what stands at a place, and whether it is a folder or a file; nil for nothing, or for something else.
    private func status(_ place: String) -> (attributes: Attributes, isDirectory: Bool)? {
        var status = stat()
        guard lstat(place, &status) == 0 else { return nil }
        let kind = status.st_mode & S_IFMT
        guard kind == S_IFDIR || kind == S_IFREG else { return nil }
        return (
            Attributes(uid: status.st_uid, gid: status.st_gid, mode: status.st_mode & 0o7777), kind == S_IFDIR
        )
    }

    func isDirectory(_ path: String, owner: String, mode: Int) throws -> Bool {
        guard let status = status(try checked(path)), status.isDirectory else { return false }
        return status.attributes == (try attributes(owner, mode))
    }

    func isFile(_ path: String, content: String, owner: String, mode: Int) throws -> Bool {
        let place = try checked(path)
        guard let status = status(place), !status.isDirectory, status.attributes == (try attributes(owner, mode)) else {
            return false
        }
        return try FileSystem.read(place) == Array(content.utf8)
    }

    /// Makes a folder that isn't there as it should be.
    func makeDirectory(_ path: String, owner: String, mode: Int) throws {
        if try isDirectory(path, owner: owner, mode: mode) { return }
        let place = try checked(path)
        let (uid, gid) = try user(owner)
        try FileSystem.makeDirectory(place)
        // A link that a service put there would hand it what the link leads to.
        let folder = try File(place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        guard fchown(folder.descriptor, uid, gid) == 0 else { throw SystemError("fchown", place) }
        guard fchmod(folder.descriptor, mode_t(mode)) == 0 else { throw SystemError("fchmod", place) }
    }

    /// Writes a file that isn't there as it should be.
    func write(_ path: String, content: String, owner: String, mode: Int) throws {
        if try isFile(path, content: content, owner: owner, mode: mode) { return }
        let place = try checked(path)
        let (uid, gid) = try user(owner)
        if let folder = FileSystem.parent(of: place) { try FileSystem.makeDirectory(folder) }
        try FileSystem.replace(place, mode: mode_t(mode)) { (file: File) throws(any Error) in
            try file.write(Array(content.utf8), at: 0)
            guard fchown(file.descriptor, uid, gid) == 0 else { throw SystemError("fchown", place) }
        }
    }

    /// Empties a folder; a link in its place is not followed.
    func purge(_ place: String) throws {
        guard let status = status(place), status.isDirectory else { return }
        for name in try FileSystem.list(place) { try FileSystem.remove("\(place)/\(name)") }
    }

    /// Removes unfinished files beside the files of a plan.
    func removeLeftovers(of files: [FileResource]) throws {
        let folders = Set(try files.compactMap { FileSystem.parent(of: try checked($0.path)) })
        for folder in folders.sorted() where FileSystem.exists(folder) { try FileSystem.removeLeftovers(in: folder) }
    }

    /// Removes a file; a folder only when nothing is in it any more.
    func remove(_ path: String, isDirectory: Bool) throws {
        let place = try checked(path)
        if isDirectory {
            rmdir(place)
        } else {
            try FileSystem.remove(place)
        }
    }
}
