import Digests
import Files
import Transfers

/// Fetches the .debs of a lock into the cache.
public enum Fetching {
    /// Some .debs are no longer where the lock says.
    public struct Gone: Error, CustomStringConvertible {
        public var packages: [LockedPackage]

        public var description: String {
            """
            error: the archive no longer has \(packages.count) of the locked packages (an update replaces the old version):
            \(packages.map { "  \($0.name) \($0.version)" }.joined(separator: "\n"))
              try: --relock-gone, which moves only these and the packages that they force, and shows the difference;
                   or --snapshot URL, a snapshot archive, which is asked for the first state after the lock's date
            """
        }
    }

    /// Packages that the cache lacks.
    public static func missing(_ packages: [LockedPackage], cache: Cache) -> [LockedPackage] {
        packages.filter { !FileSystem.exists(cache.package($0.digest)) }
    }

    /// Fetches missing packages; without any, the network is not used.
    public static func fetch(
        _ packages: [LockedPackage], from mirrors: () throws -> Mirrors, cache: Cache,
        progress: ((DownloadProgress) -> Void)?
    ) throws {
        var seen: Set<Digest> = []
        let wanted = missing(packages, cache: cache).filter { seen.insert($0.digest).inserted }
        if wanted.isEmpty { return }
        let mirrors = try mirrors()
        _ = try cache.folder("debs")
        let downloads = wanted.map {
            Download(
                url: "\(mirrors.url($0.archive))/\($0.path)", path: cache.package($0.digest), size: $0.size,
                digest: $0.digest)
        }
        let failures = try mirrors.proxies.fetch(downloads, progress: progress)
        if failures.isEmpty { return }
        let gone = Set(failures.filter { $0.reason == .gone }.map(\.url))
        guard gone.count == failures.count else {
            let shown = failures.filter { $0.reason != .gone }.prefix(5).map { "  \($0)" }.joined(separator: "\n")
            // A file with another digest than the lock's is not repaired by fetching it again.
            let isWrong = failures.contains { if case .mismatch = $0.reason { true } else { false } }
            throw BuildFailure(
                "\(failures.count) of \(downloads.count) downloads failed:\n\(shown)",
                hint: isWrong
                    ? "another --mirror: this one has other files than the lock names"
                    : "again: complete files are kept, and a partial one is resumed")
        }
        throw Gone(packages: zip(wanted, downloads).filter { gone.contains($0.1.url) }.map(\.0))
    }
}
