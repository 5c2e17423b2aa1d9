import Digests
import Files
import Glibc

/// What a directory tree of the disk holds at one moment.
struct TreeScan {
    /// Of one path, what changes whenever anything about it does.
    struct Entry: Hashable {
        var mode: UInt32
        var uid: UInt32
        var gid: UInt32
        var size: Int
        var inode: UInt64
        /// Nanoseconds; of directories it says nothing of their contents.
        var changed: Int
    }

    private(set) var entries: [String: Entry] = [:]

    /// Reads everything below `root` but what ``IgnoredEffects`` never reads.
    init(root: String) throws {
        try read(root, "")
    }

    private mutating func read(_ root: String, _ folder: String) throws {
        let place = folder.isEmpty ? root : "\(root)/\(folder)"
        guard let directory = opendir(place) else {
            // A script of an earlier step may have removed it meanwhile.
            if errno == ENOENT { return }
            throw SystemError("opendir", place)
        }
        defer { closedir(directory) }
        var below: [String] = []
        while let item = readdir(directory) {
            let name = withUnsafePointer(to: &item.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name == "." || name == ".." { continue }
            var status = stat()
            guard fstatat(dirfd(directory), name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { continue }
            let path = folder.isEmpty ? name : "\(folder)/\(name)"
            let isDirectory = status.st_mode & S_IFMT == S_IFDIR
            entries[path] = Entry(
                mode: status.st_mode, uid: status.st_uid, gid: status.st_gid,
                size: isDirectory ? 0 : Int(status.st_size), inode: UInt64(status.st_ino),
                changed: isDirectory ? 0 : status.st_ctim.tv_sec * 1_000_000_000 + status.st_ctim.tv_nsec)
            if isDirectory, !IgnoredEffects.isUnread(path) { below.append(path) }
        }
        for path in below { try read(root, path) }
    }

    /// Paths that are new, gone or other than in `old`.
    func differences(from old: TreeScan) -> [String] {
        entries.filter { old.entries[$0.key] != $0.value }.map(\.key)
            + old.entries.keys.filter { entries[$0] == nil }
    }
}
