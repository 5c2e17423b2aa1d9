import Digests
import Files
import Glibc

/// Downloads, unpacked packages and tools, kept by content: `$XDG_CACHE_HOME/vcpe` or `~/.cache/vcpe`.
public struct Cache: Sendable {
    public let root: String

    public init(root: String) { self.root = root }

    /// The cache of the user who runs us.
    public static var standard: Cache {
        func variable(_ name: String) -> String? {
            getenv(name).map { String(cString: $0) }.flatMap { $0.hasPrefix("/") ? $0 : nil }
        }
        // Never a folder that others may write to: tools are run from here.
        let home = variable("HOME") ?? getpwuid(getuid()).map { String(cString: $0.pointee.pw_dir) } ?? "/root"
        let base = variable("XDG_CACHE_HOME") ?? home + "/.cache"
        return Cache(root: base + "/vcpe")
    }

    /// Makes and returns a folder of the cache.
    public func folder(_ name: String) throws -> String {
        let path = "\(root)/\(name)"
        try FileSystem.makeDirectory(path)
        return path
    }

    /// Where the .deb with this digest is, or will be.
    public func package(_ digest: Digest) -> String { "\(root)/debs/\(digest.hex).deb" }

    /// One kind of content in the cache.
    public struct Section: Sendable, Hashable {
        public var name: String
        public var files: Int
        /// Bytes.
        public var size: Int
    }

    /// What the cache holds.
    public func sections() throws -> [Section] {
        guard FileSystem.exists(root) else { return [] }
        return try FileSystem.list(root).map { name in
            let (files, size) = try Self.measure("\(root)/\(name)")
            return Section(name: name, files: files, size: size)
        }
    }

    /// Removes what no lock in `keeping` names and nobody used for `days`, and all that was derived from it.
    ///
    /// - Returns: the bytes that were freed.
    public func prune(keeping: Set<Digest>, days: Int) throws -> Int {
        var freed = 0
        let limit = time(nil) - days * 86_400
        for section in ["debs", "packages", "tools", "plugins", "modules", "initramfs"]
        where FileSystem.exists("\(root)/\(section)") {
            for name in try FileSystem.list("\(root)/\(section)") {
                let path = "\(root)/\(section)/\(name)"
                if let digest = Digest(hex: name.prefix(64)), keeping.contains(digest) { continue }
                var status = stat()
                guard lstat(path, &status) == 0 else { continue }
                if max(status.st_mtim.tv_sec, status.st_atim.tv_sec) > limit { continue }
                freed += try Self.measure(path).size
                try FileSystem.remove(path)
            }
        }
        // What killed processes left: a day is longer than any of them ran.
        let apt = FileSystem.exists("\(root)/apt") ? try FileSystem.list("\(root)/apt").map { "apt/\($0)" } : []
        for section in ["debs", "packages", "tools", "plugins", "modules", "initramfs", "apt"] + apt {
            for name in (try? FileSystem.list("\(root)/\(section)")) ?? []
            where name.hasPrefix(FileSystem.temporaryPrefix) {
                let path = "\(root)/\(section)/\(name)"
                var status = stat()
                guard lstat(path, &status) == 0, status.st_mtim.tv_sec < time(nil) - 86_400 else { continue }
                freed += try Self.measure(path).size
                try FileSystem.remove(path)
            }
        }
        return freed
    }

    private static func measure(_ path: String) throws -> (files: Int, size: Int) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return (0, 0) }
        guard status.st_mode & S_IFMT == S_IFDIR else { return (1, Int(status.st_blocks) * 512) }
        return try FileSystem.list(path).reduce((0, 0)) { sum, name in
            let (files, size) = try measure("\(path)/\(name)")
            return (sum.0 + files, sum.1 + size)
        }
    }
}
