import Documents
import Files
import Glibc
import PluginKit

/// What daemons keep below /data/PLUGIN, where releases write it in different formats: each finds what it can read, and what it makes of another one's is a copy.
///
/// A plugin's manifest says which format its daemons write. Where another one lies there, what lies there is kept aside before any service starts: the release before finds it
/// again when this one is given up, as it left it. A release that is installed anew has nothing kept.
///
/// Power may fail at any step: the note of what lies there changes between a name's going and another one's coming, and who finds nothing under the one looks
/// for the other.
struct PluginStates {
    let places: Places

    private var folder: String { places.states }
    private var notes: String { "\(folder)/formats" }
    private func place(_ plugin: String) -> String { "\(places.data)/\(plugin)" }
    private func kept(_ plugin: String, _ format: Int) -> String { "\(folder)/\(plugin).\(format)" }

    /// Of what lies there, by plugin; 1 where nothing was noted.
    private var formats: [String: Int] {
        (try? JSON.parse(FileSystem.read(notes)))?.object?.compactMapValues(\.integer) ?? [:]
    }

    private func note(_ format: Int, of plugin: String) throws {
        var all = formats
        all[plugin] = format
        try FileSystem.replace(notes, with: JSON.object(all.mapValues { .integer($0) }).line)
        try FileSystem.syncDirectory(folder)
    }

    /// Gives each plugin of this release a state that it can read.
    ///
    /// - Returns: for people, what was done.
    func adopt(_ manifests: [PluginManifest]) throws -> [String] {
        if FileSystem.exists(folder) { try FileSystem.removeLeftovers(in: folder) }
        let formats = formats
        return try manifests.compactMap { manifest in
            try adopt(manifest.name, manifest.stateFormat, from: formats[manifest.name] ?? 1)
        }
    }

    private func adopt(_ plugin: String, _ own: Int, from last: Int) throws -> String? {
        let (place, saved) = (place(plugin), kept(plugin, own))
        if last == own {
            // Power failed when it was on its way back.
            guard !FileSystem.exists(place), FileSystem.exists(saved) else { return nil }
            try move(saved, to: place)
            return "\(plugin): its state in format \(own) is back"
        }
        try FileSystem.makeDirectory(folder)
        let aside = kept(plugin, last)
        if own < last || FileSystem.exists(saved) {
            if FileSystem.exists(place) {
                try FileSystem.remove(aside)
                try move(place, to: aside)
            }
            try note(own, of: plugin)
            guard FileSystem.exists(saved) else {
                return "\(plugin): its state in format \(last) is kept, and it begins with none in format \(own)"
            }
            try move(saved, to: place)
            return "\(plugin): its state in format \(own) is back, that in format \(last) is kept"
        }
        let isThere = FileSystem.exists(place)
        if isThere {
            let copy = "\(folder)/\(FileSystem.temporaryPrefix)\(plugin)"
            try FileTreeCopy.make(of: place, at: copy)
            try FileSystem.remove(aside)
            try move(copy, to: aside)
        }
        try note(own, of: plugin)
        return isThere
            ? "\(plugin): a copy of its state in format \(last) is kept, before it becomes format \(own)" : nil
    }

    private func move(_ path: String, to target: String) throws {
        try FileSystem.rename(path, to: target)
        for folder in [folder, places.data] { try FileSystem.syncDirectory(folder) }
    }

    /// - Throws: where the data partition has no room for the copies that these plugins will want.
    func checkRoom(for manifests: [PluginManifest]) throws {
        let formats = formats
        var wanted = 0
        for manifest in manifests where manifest.stateFormat > formats[manifest.name] ?? 1 {
            if FileSystem.exists(place(manifest.name)) { wanted += try FileTreeCopy.size(of: place(manifest.name)) }
        }
        let free = try FileTreeCopy.free(at: places.data)
        guard wanted <= free else {
            throw EngineError(
                "\(Size.text(wanted)) are wanted on the data partition for copies of what daemons keep, and \(Size.text(free)) are free"
            )
        }
    }
}

/// A folder with all in it once more: owners, modes and times as they are. Sockets and pipes are left out.
private enum FileTreeCopy {
    static func make(of source: String, at target: String) throws {
        let status = try self.status(source)
        switch status.st_mode & S_IFMT {
        case S_IFDIR:
            guard mkdir(target, 0o700) == 0 else { throw SystemError("mkdir", target) }
            for name in try FileSystem.list(source) { try make(of: "\(source)/\(name)", at: "\(target)/\(name)") }
        case S_IFREG:
            let (from, to) = (
                try File(source, O_RDONLY | O_NOFOLLOW), try File(target, O_RDWR | O_CREAT | O_EXCL)
            )
            try to.copy(from: from, at: 0, count: try from.size(), to: 0)
            try to.sync()
        case S_IFLNK:
            var bytes = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
            guard readlink(source, &bytes, Int(PATH_MAX)) >= 0, symlink(bytes, target) == 0 else {
                throw SystemError("symlink", target)
            }
        default: return
        }
        guard lchown(target, status.st_uid, status.st_gid) == 0 else { throw SystemError("chown", target) }
        guard status.st_mode & S_IFMT != S_IFLNK else { return }
        guard chmod(target, status.st_mode & 0o7777) == 0 else { throw SystemError("chmod", target) }
        let times = [status.st_atim, status.st_mtim]
        guard utimensat(AT_FDCWD, target, times, AT_SYMLINK_NOFOLLOW) == 0 else {
            throw SystemError("utimensat", target)
        }
        if status.st_mode & S_IFMT == S_IFDIR { try FileSystem.syncDirectory(target) }
    }

    /// Bytes on the disk.
    static func size(of path: String) throws -> Int {
        let status = try self.status(path)
        let own = Int(status.st_blocks) * 512
        guard status.st_mode & S_IFMT == S_IFDIR else { return own }
        return try FileSystem.list(path).reduce(own) { try $0 + size(of: "\(path)/\($1)") }
    }

    /// Bytes that root may still write.
    static func free(at path: String) throws -> Int {
        var status = statvfs()
        guard statvfs(path, &status) == 0 else { throw SystemError("statvfs", path) }
        return Int(status.f_bfree) * Int(status.f_frsize)
    }

    private static func status(_ path: String) throws -> stat {
        var status = stat()
        guard lstat(path, &status) == 0 else { throw SystemError("lstat", path) }
        return status
    }
}
