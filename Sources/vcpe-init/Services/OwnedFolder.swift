import Glibc

/// Folders that belong to a service.
enum OwnedFolder {
    /// Makes a folder and those above it, the last one owned by the service. Links are not
    /// followed: one that the service itself put there would hand it what the link leads to.
    static func make(_ path: String, user: UInt32, group: UInt32) throws(Failure) {
        var folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        for name in path.split(separator: "/") {
            let name = String(name)
            mkdirat(folder, name, 0o755)
            let next = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            let code = errno
            close(folder)
            guard next >= 0 else { throw Failure("open", path, code: code) }
            folder = next
        }
        defer { close(folder) }
        guard fchown(folder, user, group) == 0 else { throw Failure("fchown", path) }
    }
}
