import Files
import Glibc
import Transfers

/// A repository at one address, or at several that mirror it: `https:`, `http:`, or `file:` for a
/// folder or a stick.
public final class Repository {
    private let addresses: [String]
    private let reader: any RemoteFiles
    /// Rounds through all addresses before a read fails.
    private let rounds: Int
    /// Waits a number of milliseconds.
    private let pause: (Int) -> Void
    /// The address that answered last; it is tried first.
    private var preferred = 0
    /// Addresses that delivered data in the current attempt.
    private var sources: Set<Int> = []
    /// The only address that is tried now; nil for all.
    private var only: Int?

    /// - Parameters:
    ///   - addresses: the preferred one first, then its mirrors.
    ///   - rounds: rounds through all addresses while their failures are transient.
    public convenience init(_ addresses: [String], options: Reader.Options = .init(), rounds: Int = 1) {
        self.init(addresses, options: options, rounds: rounds) { usleep(UInt32($0) * 1000) }
    }

    init(_ addresses: [String], options: Reader.Options, rounds: Int, pause: @escaping (Int) -> Void) {
        (self.addresses, self.rounds, self.pause) = (addresses, rounds, pause)
        reader = options.fetcher.map { RemoteReader(options, socket: $0) } ?? Reader(options)
    }

    /// Fetches a file, or a part of it, from the first address that has all of it.
    ///
    /// Between two rounds it waits 1 s, 2 s, 4 s and so on up to a minute, each time 50 to 150 % of
    /// that, so that boxes that lost their server at the same moment do not retry at the same
    /// moment.
    ///
    /// - Parameters:
    ///   - path: the path below the addresses.
    ///   - most: the largest size in bytes; a longer file is a failure, and no more is ever read.
    ///   - isLikely: whether the file should exist. If not, one address that answers that it does
    ///     not exist is enough.
    ///   - deadline: seconds for one request; nil for no limit while it does not stall.
    /// - Throws: the failure of the last address, or the last transient failure.
    func read(
        _ path: String, most: Int, range: Range<Int>? = nil, isLikely: Bool = true, deadline: Int? = nil
    ) throws(DownloadFailure) -> [UInt8] {
        var failure = DownloadFailure(url: path, reason: .gone)
        for round in 0..<(only == nil ? max(1, rounds) : 1) {
            if round > 0 { pause(min(60_000, 1000 << (round - 1)) * Int.random(in: 50...150) / 100) }
            var (isTransient, isGone) = (false, false)
            for offset in addresses.indices {
                let index = (preferred + offset) % addresses.count
                if let only, only != index { continue }
                do {
                    let bytes = try reader.read(
                        URLText.joined(addresses[index], path), most: most, range: range, deadline: deadline)
                    preferred = index
                    sources.insert(index)
                    return bytes
                } catch {
                    // A local folder that exists is complete, so mirrors are not tried: they may be
                    // unreachable. If the folder is missing, its stick was removed.
                    if error.reason == .gone, Self.exists(addresses[index]) { throw error }
                    // A transient failure of one address matters more than a file that another one
                    // lacks.
                    if !isTransient { failure = error }
                    if error.isTransient { isTransient = true }
                    // An object store without permission to list answers 403 for a missing object.
                    if [.gone, .refused(403)].contains(error.reason) { isGone = true }
                }
            }
            if isGone, !isLikely { throw DownloadFailure(url: path, reason: .gone) }
            if !isTransient { break }
        }
        throw failure
    }

    /// Runs `body`. If the contents that it read are wrong, runs it again with each address alone,
    /// because it is unknown which of several addresses delivered the wrong part.
    ///
    /// - Throws: the first failure, if no address alone succeeds.
    public func trying<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
        sources = []
        do { return try body() } catch {
            guard Self.concernsContents(error), addresses.count > 1 else { throw error }
            defer { only = nil }
            let suspects = sources
            for index in addresses.indices where suspects != [index] {
                only = index
                do { return try body() } catch let next {
                    // Another address does not help against a failure of this machine's disk.
                    if (next as? UpdateFailure)?.reason == .storage { throw next }
                }
            }
            throw error
        }
    }

    private static func concernsContents(_ error: some Error) -> Bool {
        (error as? UpdateFailure)?.concernsContents == true
    }

    private static func exists(_ address: String) -> Bool {
        address.hasPrefix("file://") && FileSystem.exists(String(address.dropFirst("file://".count)))
    }

    /// The time limit in seconds for a request of that many bytes, at 10 kB a second, or at half of
    /// this box's own rate limit if that is less. Otherwise a server that sends just fast enough
    /// not to stall could block an update for hours.
    func deadline(for bytes: Int) -> Int {
        let slowest = min(10_000, max(1, (reader.options.bytesPerSecond ?? .max) / 2))
        return 4 * reader.options.stallTime + bytes / slowest
    }
}

/// Metadata in a folder of a repository.
public struct HTTPSource: MetadataSource {
    private let repository: Repository
    private let folder: String

    /// - Parameter folder: a path with a trailing slash, below the repository's addresses; empty
    ///   for the addresses themselves.
    public init(_ repository: Repository, folder: String = "") { (self.repository, self.folder) = (repository, folder) }

    public func read(_ file: String, most: Int, isLikely: Bool) throws(UpdateFailure) -> [UInt8]? {
        do {
            return try repository.read(
                folder + file, most: most, isLikely: isLikely, deadline: repository.deadline(for: most))
        } catch {
            switch error.reason {
            case .gone, .refused(403): return nil
            case .mismatch(let text): throw UpdateFailure(.tooLong, file, text)
            case .refused, .transfer, .local: throw UpdateFailure(.unavailable, file, "\(error)")
            }
        }
    }
}
