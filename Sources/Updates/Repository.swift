import Files
import Glibc
import Transfers

/// A repository at one address, or at several that mirror it: `https:`, `http:`, or `file:` for a
/// folder or a stick.
public final class Repository {
    private let addresses: [String]
    private let reader: Reader
    /// Rounds through all addresses before a read fails.
    private let rounds: Int
    /// Waits so many milliseconds.
    private let pause: (Int) -> Void
    /// The address that answered last is asked first.
    private var preferred = 0
    /// Addresses that delivered something of the current attempt.
    private var sources: Set<Int> = []
    /// The only address that is asked now; nil for all.
    private var only: Int?

    /// - Parameters:
    ///   - addresses: the preferred one first, then its mirrors.
    ///   - rounds: rounds through all addresses while their failures are transient.
    public convenience init(_ addresses: [String], options: Reader.Options = .init(), rounds: Int = 1) {
        self.init(addresses, options: options, rounds: rounds) { usleep(UInt32($0) * 1000) }
    }

    init(_ addresses: [String], options: Reader.Options, rounds: Int, pause: @escaping (Int) -> Void) {
        (self.addresses, reader, self.rounds, self.pause) = (addresses, Reader(options), rounds, pause)
    }

    /// Fetches a file, or a part of it, from the first address that has all of it.
    ///
    /// Between two rounds it waits 1 s, 2 s, 4 s and so on up to a minute, each time 50 to 150 % of
    /// that: boxes that lost their server at the same moment do not return at the same moment.
    ///
    /// - Parameters:
    ///   - path: below the addresses.
    ///   - most: bytes; a longer file is a failure, and no more than these are ever read.
    ///   - isLikely: whether the file should exist. If not, the first address that denies it is
    ///     believed.
    ///   - deadline: seconds for one request; nil for as long as it does not stall.
    /// - Throws: the failure of the last address that was asked.
    func read(
        _ path: String, most: Int, range: Range<Int>? = nil, isLikely: Bool = true, deadline: Int? = nil
    ) throws(DownloadFailure) -> [UInt8] {
        var failure = DownloadFailure(url: path, reason: .gone)
        for round in 0..<(only == nil ? max(1, rounds) : 1) {
            if round > 0 { pause(min(60_000, 1000 << (round - 1)) * Int.random(in: 50...150) / 100) }
            var (mayPass, isGone) = (false, false)
            for turn in addresses.indices {
                let place = (preferred + turn) % addresses.count
                if let only, only != place { continue }
                do {
                    let bytes = try reader.read(
                        URLText.joined(addresses[place], path), most: most, range: range, deadline: deadline)
                    preferred = place
                    sources.insert(place)
                    return bytes
                } catch {
                    // A folder that exists is complete, and without a network no mirror has more. A
                    // folder that does not exist is a stick that was removed.
                    if error.reason == .gone, Self.exists(addresses[place]) { throw error }
                    // That one address lacks the file means less than that another could not be
                    // asked.
                    if !mayPass { failure = error }
                    if error.isTransient { mayPass = true }
                    // An object store that may not be listed answers 403 for an object that does
                    // not exist.
                    if [.gone, .refused(403)].contains(error.reason) { isGone = true }
                }
            }
            if isGone, !isLikely { throw DownloadFailure(url: path, reason: .gone) }
            if !mayPass { break }
        }
        throw failure
    }

    /// Does something with what is read. If the contents are not what is signed, does it again with
    /// each address alone: where several have delivered parts, it is unknown which of them was
    /// wrong.
    ///
    /// - Throws: the first failure, if no address alone succeeds.
    public func trying<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
        sources = []
        do { return try body() } catch {
            guard Self.isOfContents(error), addresses.count > 1 else { throw error }
            defer { only = nil }
            let suspects = sources
            for place in addresses.indices where suspects != [place] {
                only = place
                do { return try body() } catch let next {
                    // A failure of this machine's disk is no address's fault.
                    if (next as? UpdateFailure)?.reason == .storage { throw next }
                }
            }
            throw error
        }
    }

    private static func isOfContents(_ error: some Error) -> Bool { (error as? UpdateFailure)?.isOfContents == true }

    private static func exists(_ address: String) -> Bool {
        address.hasPrefix("file://") && FileSystem.exists(String(address.dropFirst("file://".count)))
    }

    /// Seconds for a request of that many bytes, at 10 kB a second, or at half of this box's own
    /// limit if that is less. A server that trickles just fast enough not to stall cannot hold an
    /// update for hours.
    func deadline(for bytes: Int) -> Int {
        let slowest = min(10_000, max(1, (reader.options.bytesPerSecond ?? .max) / 2))
        return 4 * reader.options.stallTime + bytes / slowest
    }
}

/// Metadata in a folder of a repository.
public struct HTTPSource: MetadataSource {
    private let repository: Repository
    private let folder: String

    /// - Parameter folder: with a slash at its end, below the repository's addresses; empty for
    ///   these themselves.
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
