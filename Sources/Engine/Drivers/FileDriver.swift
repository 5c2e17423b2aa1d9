import Files
import Glibc
import PluginKit

/// Files and folders of plugins, below /run/vcpe and /data only: /etc is the image's, and links from there.
struct FileDriver {
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

    func makeDirectory(_ path: String, owner: String, mode: Int) throws {
        let place = try checked(path)
        let (uid, gid) = try user(owner)
        try FileSystem.makeDirectory(place)
        guard chown(place, uid, gid) == 0 else { throw SystemError("chown", place) }
        guard chmod(place, mode_t(mode)) == 0 else { throw SystemError("chmod", place) }
    }

    func write(_ path: String, content: String, owner: String, mode: Int) throws {
        let place = try checked(path)
        let (uid, gid) = try user(owner)
        if let folder = FileSystem.parent(of: place) { try FileSystem.makeDirectory(folder) }
        try FileSystem.replace(place, mode: mode_t(mode)) { (file: File) throws(any Error) in
            try file.write(Array(content.utf8), at: 0)
            guard fchown(file.descriptor, uid, gid) == 0 else { throw SystemError("fchown", place) }
        }
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
