import Glibc

/// Fills the memory file systems on /var, /run, /tmp and the image's writable directories with what
/// the image has in these directories: packages' state directories, and what tmpfiles.d(5) and
/// service units declare, which the builder put there.
enum VolatileDirectories {
    /// Where the image's own directories are visible beneath the file systems mounted on them.
    private static let image = "/mnt"
    /// Further directories that are writable, one a line: the definition's `writable:`.
    private static let list = "/usr/lib/vcpe/writable"

    /// Called once those file systems are mounted. What is there already remains.
    static func fill() {
        // Not recursive: the bind shows the root file system alone, without what is mounted on its
        // directories.
        guard mount("/", image, nil, UInt(MS_BIND), nil) == 0 else {
            Console.say("\(Failure("mount", image)): /var, /run and /tmp lack what the image has there")
            return
        }
        for name in ["var", "run", "tmp"] { copy("\(image)/\(name)", to: "/\(name)") }
        for path in Text.lines(list).map(String.init) where path.hasPrefix("/") {
            var status = stat()
            guard lstat(path, &status) == 0,
                mount("tmpfs", path, "tmpfs", UInt(MS_NOSUID | MS_NODEV), "size=5%") == 0
            else {
                Console.say("\(Failure("mount", path)): it stays read-only")
                continue
            }
            setOwner(path, status)
            copy("\(image)\(path)", to: path)
        }
        if umount2(image, 0) != 0 { Console.say("\(Failure("umount", image))") }
    }

    private static func copy(_ source: String, to target: String) {
        for name in Text.list(source) {
            let (from, to) = ("\(source)/\(name)", "\(target)/\(name)")
            var status = stat()
            guard lstat(from, &status) == 0 else { continue }
            var made = stat()
            let exists = lstat(to, &made) == 0
            switch status.st_mode & S_IFMT {
            case S_IFDIR:
                if exists, made.st_mode & S_IFMT != S_IFDIR { continue }
                if !exists, mkdir(to, 0o700) != 0 {
                    Console.say("\(Failure("mkdir", to))")
                    continue
                }
                copy(from, to: to)
                if !exists { setOwner(to, status) }
            case S_IFLNK where !exists:
                var bytes = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
                if readlink(from, &bytes, Int(PATH_MAX)) < 0 || symlink(bytes, to) != 0 {
                    Console.say("\(Failure("symlink", to))")
                }
            case S_IFREG where !exists:
                if copyFile(from, to, Int(status.st_size)) {
                    setOwner(to, status)
                } else {
                    Console.say("\(Failure("copy", to))")
                }
            default: break
            }
        }
    }

    private static func copyFile(_ source: String, _ target: String, _ size: Int) -> Bool {
        let from = open(source, O_RDONLY | O_CLOEXEC)
        guard from >= 0 else { return false }
        defer { close(from) }
        let to = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard to >= 0 else { return false }
        defer { close(to) }
        var rest = size
        while rest > 0 {
            let count = sendfile(to, from, nil, rest)
            if count < 0, errno == EINTR { continue }
            if count <= 0 { return false }
            rest -= count
        }
        return true
    }

    /// The owner first: chown(2) clears setuid and setgid.
    private static func setOwner(_ path: String, _ status: stat) {
        if lchown(path, status.st_uid, status.st_gid) != 0 || chmod(path, status.st_mode & 0o7777) != 0 {
            Console.say("\(Failure("chown", path))")
        }
    }
}
