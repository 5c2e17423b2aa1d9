import Files
import Glibc

/// A folder with all in it once more: owners, modes and times as they are. Sockets, pipes and extended attributes are left out.
enum FileTreeCopy {
    static func make(of source: String, at target: String) throws {
        var status = stat()
        guard lstat(source, &status) == 0 else { throw SystemError("lstat", source) }
        switch status.st_mode & S_IFMT {
        case S_IFDIR:
            guard mkdir(target, 0o700) == 0 else { throw SystemError("mkdir", target) }
            for name in try FileSystem.list(source) { try make(of: "\(source)/\(name)", at: "\(target)/\(name)") }
        case S_IFREG:
            let (from, to) = (
                try File(source, O_RDONLY | O_NOFOLLOW), try File(target, O_RDWR | O_CREAT | O_EXCL)
            )
            try to.copy(from: from, at: 0, count: try from.size(), to: 0)
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
    }

    /// Bytes that a copy may take. Daemons go on with it meanwhile: what went counts for nothing.
    static func size(of path: String) throws -> Int {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            if errno == ENOENT { return 0 }
            throw SystemError("lstat", path)
        }
        let own = max(Int(status.st_size), Int(status.st_blocks) * 512)
        guard status.st_mode & S_IFMT == S_IFDIR else { return own }
        return try FileSystem.list(path).reduce(own) { try $0 + size(of: "\(path)/\($1)") }
    }

    /// Bytes that root may still write.
    static func free(at path: String) throws -> Int {
        var status = statvfs()
        guard statvfs(path, &status) == 0 else { throw SystemError("statvfs", path) }
        return Int(status.f_bfree) * Int(status.f_frsize)
    }
}
