import CSystem
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

    /// Removes a file that a service makes. No link above it is followed: the folder may be the
    /// service's own, which could put a link to another's file there.
    static func removeFile(_ path: String) {
        // Debian's own link, which units name.
        let path = path.hasPrefix("/var/run/") ? String(path.dropFirst(4)) : path
        guard let end = path.lastIndex(of: "/"), path.hasPrefix("/") else { return }
        let root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        defer { close(root) }
        let parent = path[..<end].drop { $0 == "/" }
        let folder = csystem_open_beneath(root, parent.isEmpty ? "." : String(parent), O_RDONLY | O_DIRECTORY, 0)
        guard folder >= 0 else { return }
        defer { close(folder) }
        unlinkat(folder, String(path[path.index(after: end)...]), 0)
    }
}
