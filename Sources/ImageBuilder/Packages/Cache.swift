import Digests
import Files
import Glibc

/// Downloads, unpacked packages and tools, kept by content: `$XDG_CACHE_HOME/vcpe` or
/// `~/.cache/vcpe`.
public struct Cache: Sendable {
    public let root: String
    let seal: CacheSeal

    public init(root: String) {
        self.root = root
        seal = .ofUser
    }

    /// The cache of the user who runs this program.
    public static var standard: Cache { Cache(root: userFolder("XDG_CACHE_HOME", or: ".cache") + "/vcpe") }

    /// A folder of the XDG Base Directory Specification: the variable's value, or a default below
    /// the home directory.
    static func userFolder(_ variable: String, or below: String) -> String {
        func value(_ name: String) -> String? {
            getenv(name).map { String(cString: $0) }.flatMap { $0.hasPrefix("/") ? $0 : nil }
        }
        // Never a folder that other users can write to: tools are run from the cache.
        let home = value("HOME") ?? getpwuid(getuid()).map { String(cString: $0.pointee.pw_dir) } ?? "/root"
        return value(variable) ?? "\(home)/\(below)"
    }

    /// Creates and returns a folder of the cache.
    public func folder(_ name: String) throws -> String {
        let path = "\(root)/\(name)"
        try FileSystem.makeDirectory(path)
        return path
    }

    /// The path of the .deb with this digest, whether or not it is cached.
    public func package(_ digest: Digest) -> String { "\(root)/debs/\(digest.hex).deb" }

    // MARK: - Derived files

    /// Returns the contents of a derived file. The file is made when the cache has no copy with a
    /// mark of this user's builds.
    ///
    /// - Parameters:
    ///   - name: the file's name in the section. It identifies everything that the contents depend
    ///     on.
    ///   - make: writes the contents.
    /// - Returns: the verified bytes.
    func derived(_ section: String, _ name: String, make: (File) throws -> Void) throws -> [UInt8] {
        let path = "\(try folder(section))/\(name)"
        if let bytes = try? FileSystem.read(path), isMarked(section, name, SHA256.hash(bytes)) { return bytes }
        try FileSystem.replace(path) { (file: File) throws(any Error) in try make(file) }
        let bytes = try FileSystem.read(path)
        try mark(section, name, SHA256.hash(bytes))
        return bytes
    }

    /// True when a build of this user has recorded this digest of the file.
    func isMarked(_ section: String, _ name: String, _ digest: Digest) -> Bool {
        guard let mark = try? FileSystem.read("\(root)/\(section)/\(name)\(Self.markSuffix)") else { return false }
        return mark == seal.mark("\(section)/\(name)", digest).bytes
    }

    /// Records the digest of the file.
    func mark(_ section: String, _ name: String, _ digest: Digest) throws {
        try FileSystem.replace(
            "\(root)/\(section)/\(name)\(Self.markSuffix)", with: seal.mark("\(section)/\(name)", digest).bytes)
    }

    private static let markSuffix = ".mark"

    // MARK: - Use and pruning

    /// Takes the lock of a command that reads the cache: no other command prunes it meanwhile.
    ///
    /// - Parameter waiting: called once, with the process of a running prune.
    func use(waiting: (FileLock.Holder) -> Void) throws -> FileLock {
        try FileSystem.makeDirectory(root)
        return try FileLock("\(root)/.lock", .shared, waiting: waiting)
    }

    /// One kind of content in the cache.
    public struct Section: Sendable, Hashable {
        public var name: String
        public var files: Int
        /// Bytes.
        public var size: Int
    }

    /// The contents of the cache.
    public func sections() throws -> [Section] {
        guard FileSystem.exists(root) else { return [] }
        return try FileSystem.list(root).filter { !$0.hasPrefix(".") }.map { name in
            let (files, size) = try Self.measure("\(root)/\(name)")
            return Section(name: name, files: files, size: size)
        }
    }

    /// Removes content that is not in `keeping` and was not used for `days` days, and everything
    /// derived from it.
    ///
    /// - Parameter waiting: called once, with the process of a running build; the removal waits for
    ///   its end.
    /// - Returns: the bytes that were freed.
    public func prune(
        keeping: Set<Digest>, days: Int, waiting: (FileLock.Holder) -> Void = { _ in }
    ) throws -> Int {
        guard FileSystem.exists(root) else { return 0 }
        let lock = try FileLock("\(root)/.lock", .exclusive, waiting: waiting)
        defer { withExtendedLifetime(lock) {} }
        var freed = 0
        let limit = time(nil) - days * 86_400
        for section in ["debs", "packages", "tools", "plugins", "modules", "initramfs"]
        where FileSystem.exists("\(root)/\(section)") {
            for name in try FileSystem.list("\(root)/\(section)") {
                let path = "\(root)/\(section)/\(name)"
                // This version cannot read a package that an older vcpe has unpacked.
                let isCurrent = section != "packages" || name.hasSuffix(UnpackedPackage.suffix)
                if isCurrent, let digest = Digest(hex: name.prefix(64)), keeping.contains(digest) { continue }
                var status = stat()
                guard lstat(path, &status) == 0 else { continue }
                if isCurrent, max(status.st_mtim.tv_sec, status.st_atim.tv_sec) > limit { continue }
                freed += try Self.measure(path).size
                try FileSystem.remove(path)
            }
        }
        // Each set of sources has its own indexes; every call of apt writes `status`.
        for name in (try? FileSystem.list("\(root)/apt")) ?? [] {
            let path = "\(root)/apt/\(name)"
            var status = stat()
            guard lstat("\(path)/status", &status) == 0, status.st_mtim.tv_sec < limit else { continue }
            freed += try Self.measure(path).size
            try FileSystem.remove(path)
        }
        // Leftovers of killed processes. No build runs now; the resolver, which takes no lock,
        // never runs for a day.
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
