import Digests
import Files
import Transfers

/// Fetches the .debs of a lock into the cache.
public enum Fetching {
    /// The archive no longer has some of the locked .debs.
    public struct Gone: Error, CustomStringConvertible {
        public var packages: [LockedPackage]

        public var description: String {
            """
            error: the archive no longer has \(packages.count) of the locked packages (an update replaces the old version):
            \(packages.map { "  \($0.name) \($0.version)" }.joined(separator: "\n"))
              try: --relock-gone, which relocks only these and the packages that must change with them, and shows the difference;
                   or --snapshot URL, a snapshot archive, whose first import after the lock's date is used
            """
        }
    }

    /// For servers that demand a login or a client certificate.
    static let deniedHint =
        "add the server's login to a file of /etc/apt/auth.conf.d (apt_auth.conf(5): http needs machine http://HOST), "
        + "or a client certificate to apt's configuration (apt-transport-https(1))"

    /// Packages that are not in the cache.
    public static func missing(_ packages: [LockedPackage], cache: Cache) -> [LockedPackage] {
        packages.filter { !FileSystem.exists(cache.package($0.digest)) }
    }

    /// Fetches missing packages; without any, the network is not used.
    static func fetch(
        _ packages: [LockedPackage], from sources: () throws -> (sources: [PackageSource], apt: HostApt),
        folder: String, cache: Cache, progress: ((DownloadProgress) -> Void)?
    ) throws {
        var seen: Set<Digest> = []
        let wanted = missing(packages, cache: cache).filter { seen.insert($0.digest).inserted }
        if wanted.isEmpty { return }
        _ = try cache.folder("debs")
        let local = wanted.filter { $0.archive == LockedPackage.ownArchive }
        for package in local { try copy(package, from: folder, cache: cache) }
        if local.count == wanted.count { return }
        let (known, apt) = try sources()
        let byName = Dictionary(known.map { ($0.name, $0) }) { $1 }
        var waiting = wanted.filter { $0.archive != LockedPackage.ownArchive }
        for package in waiting where byName[package.archive] == nil {
            throw BuildFailure(
                "\(package.name) is from the archive \"\(package.archive)\", which the definition does not have",
                hint: "add it to archives:, or vcpe lock NAME")
        }
        var failures: [DownloadFailure] = []
        var downloads: [Download] = []
        // An archive can have several URLs: a file that one of them lacks is requested from the
        // next.
        for attempt in 0..<(byName.values.map(\.urls.count).max() ?? 1) where !waiting.isEmpty {
            downloads = waiting.map { package in
                let urls = byName[package.archive]?.urls ?? []
                return Download(
                    url: "\(urls[min(attempt, urls.count - 1)])/\(package.path)", path: cache.package(package.digest),
                    size: package.size, digest: package.digest)
            }
            failures = try apt.fetch(downloads, progress: progress)
            waiting = missing(waiting, cache: cache)
        }
        if failures.isEmpty { return }
        let gone = Set(failures.filter { $0.reason == .gone }.map(\.url))
        guard gone.count == failures.count else {
            let shown = failures.filter { $0.reason != .gone }.prefix(5).map { "  \($0)" }.joined(separator: "\n")
            // Fetching again does not help when a file's digest differs from the lock's.
            let isWrong = failures.contains { if case .mismatch = $0.reason { true } else { false } }
            throw BuildFailure(
                "\(failures.count) of \(downloads.count) downloads failed:\n\(shown)",
                hint: isWrong
                    ? "use another --mirror: the files of this one differ from those in the lock"
                    : failures.contains(where: \.isDenied)
                        ? deniedHint : "try again: complete files are kept, and a partial one is resumed")
        }
        throw Gone(packages: waiting)
    }

    /// Copies a local .deb, which is beside the definition.
    private static func copy(_ package: LockedPackage, from folder: String, cache: Cache) throws {
        let path = "\(folder)/\(package.path)"
        guard FileSystem.exists(path) else {
            throw BuildFailure(
                "there is no \(path), which the lock references", hint: "restore the .deb, or vcpe lock NAME")
        }
        let bytes = try FileSystem.read(path)
        guard SHA256.hash(bytes) == package.digest else {
            throw BuildFailure(
                "\(path) has SHA-256 \(SHA256.hash(bytes)), the lock has \(package.digest)", hint: "vcpe lock NAME")
        }
        try FileSystem.replace(cache.package(package.digest), with: bytes)
    }
}
