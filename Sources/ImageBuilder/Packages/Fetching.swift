import Digests
import Files
import Transfers

/// Brings the .debs of a lock into the cache.
public enum Fetching {
    /// Some .debs are no longer where the lock says.
    public struct Gone: Error, CustomStringConvertible {
        public var packages: [LockedPackage]

        public var description: String {
            """
            error: the archive no longer has \(packages.count) of the locked packages (a security update replaces what it updates):
            \(packages.map { "  \($0.name) \($0.version)" }.joined(separator: "\n"))
              try: --relock-gone, which moves only these and what they force, and shows the difference;
                   or --snapshot URL, a snapshot archive, which is asked for the time recorded in the lock
            """
        }
    }

    /// Packages that the cache lacks.
    public static func missing(_ packages: [LockedPackage], cache: Cache) -> [LockedPackage] {
        packages.filter { !FileSystem.exists(cache.package($0.digest)) }
    }

    /// Fetches what is missing; nothing touches the network when nothing is.
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
        let failures = try Transfers.fetch(downloads, proxy: mirrors.proxy, progress: progress)
        if failures.isEmpty { return }
        let gone = Set(failures.filter { $0.reason == .gone }.map(\.url))
        guard gone.count == failures.count else {
            let shown = failures.filter { $0.reason != .gone }.prefix(5).map { "  \($0)" }.joined(separator: "\n")
            throw BuildFailure(
                "\(failures.count) of \(downloads.count) downloads failed:\n\(shown)",
                hint: "again: what arrived is kept, and a part is resumed")
        }
        throw Gone(packages: zip(wanted, downloads).filter { gone.contains($0.1.url) }.map(\.0))
    }
}
