import Files
import Glibc
import Transfers

/// A repository behind an address, or several that hold the same: `https:`, `http:`, or `file:` for one on a stick.
public final class Repository {
    private let addresses: [String]
    private let reader: Reader
    /// Rounds through all addresses before nobody is asked any more.
    private let rounds: Int
    /// Waits so many milliseconds.
    private let pause: (Int) -> Void
    /// The address that answered last is asked first.
    private var preferred = 0
    /// Those that brought something of what is tried now.
    private var brought: Set<Int> = []
    /// Nobody else is asked.
    private var only: Int?

    /// - Parameters:
    ///   - addresses: the one that is preferred first, then its mirrors.
    ///   - rounds: how often all of them are asked while they, or the lines to them, fail in passing.
    public convenience init(_ addresses: [String], line: Reader.Line = .init(), rounds: Int = 1) {
        self.init(addresses, line: line, rounds: rounds) { usleep(UInt32($0) * 1000) }
    }

    init(_ addresses: [String], line: Reader.Line, rounds: Int, pause: @escaping (Int) -> Void) {
        (self.addresses, reader, self.rounds, self.pause) = (addresses, Reader(line), rounds, pause)
    }

    /// Fetches a file, or a part of it, from the first address that has it, or all of that part.
    ///
    /// Between two rounds it waits a second, then two, four and so on up to a minute, give or take a half: boxes that lost their server together don't come back
    /// together.
    ///
    /// - Parameters:
    ///   - path: below the addresses.
    ///   - most: bytes; a longer file is a failure, and no more than these are ever read.
    ///   - isLikely: it should be there. Of one that need not be, nobody is asked again when one address has said that it is not.
    /// - Throws: what the last address that was asked had against it.
    func read(
        _ path: String, most: Int, range: Range<Int>? = nil, isLikely: Bool = true
    ) throws(DownloadFailure) -> [UInt8] {
        var failure = DownloadFailure(url: path, reason: .gone)
        for round in 0..<(only == nil ? max(1, rounds) : 1) {
            if round > 0 { pause(min(60_000, 1000 << (round - 1)) * Int.random(in: 50...150) / 100) }
            var (mayPass, isGone) = (false, false)
            for turn in addresses.indices {
                let place = (preferred + turn) % addresses.count
                if let only, only != place { continue }
                do {
                    let bytes = try reader.read(URLText.joined(addresses[place], path), most: most, range: range)
                    preferred = place
                    brought.insert(place)
                    return bytes
                } catch {
                    // A folder that is there has all there is, where no line goes. One that isn't is a stick that was pulled.
                    if error.reason == .gone, Self.isThere(addresses[place]) { throw error }
                    // What one doesn't have says less than that another can't be asked.
                    if !mayPass { failure = error }
                    if error.isTransient { mayPass = true }
                    // So a store of objects says it that lists none of them.
                    if [.gone, .refused(403)].contains(error.reason) { isGone = true }
                }
            }
            if isGone, !isLikely { throw DownloadFailure(url: path, reason: .gone) }
            if !mayPass { break }
        }
        throw failure
    }

    /// Does something with what is read. Is that not what is signed, it is done again with what each address alone has: who was wrong can't be said where
    /// several have brought something. For what is done next all of them count as before.
    ///
    /// - Throws: what was wrong at first, where no address alone does better.
    public func trying<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
        brought = []
        do { return try body() } catch {
            guard Self.isOfContents(error), addresses.count > 1 else { throw error }
            defer { only = nil }
            let suspects = brought
            for place in addresses.indices where suspects != [place] {
                only = place
                do { return try body() } catch let next {
                    // The disk of this machine is nobody's fault.
                    if (next as? UpdateFailure)?.reason == .storage { throw next }
                }
            }
            throw error
        }
    }

    private static func isOfContents(_ error: some Error) -> Bool { (error as? UpdateFailure)?.isOfContents == true }

    private static func isThere(_ address: String) -> Bool {
        address.hasPrefix("file://") && FileSystem.exists(String(address.dropFirst("file://".count)))
    }
}

/// Metadata in a folder of a repository.
public struct HTTPSource: MetadataSource {
    private let repository: Repository
    private let folder: String

    /// - Parameter folder: with a slash at its end, below the repository's addresses; empty for these themselves.
    public init(_ repository: Repository, folder: String = "") { (self.repository, self.folder) = (repository, folder) }

    public func read(_ file: String, most: Int, isLikely: Bool) throws(UpdateFailure) -> [UInt8]? {
        do {
            return try repository.read(folder + file, most: most, isLikely: isLikely)
        } catch {
            switch error.reason {
            case .gone, .refused(403): return nil
            case .mismatch(let text): throw UpdateFailure(.tooLong, file, text)
            case .refused, .transfer, .local: throw UpdateFailure(.unavailable, file, "\(error)")
            }
        }
    }
}
