import Files
import Transfers

/// A file of a repository that is read in pieces.
public protocol DeltaSource {
    /// Exactly these bytes.
    func read(_ range: Range<Int>) throws(UpdateFailure) -> [UInt8]
}

/// One of a repository, by Range requests.
public struct HTTPDeltaSource: DeltaSource {
    private let repository: Repository
    private let path: String

    /// - Parameter path: below the repository's addresses.
    public init(_ repository: Repository, _ path: String) { (self.repository, self.path) = (repository, path) }

    public func read(_ range: Range<Int>) throws(UpdateFailure) -> [UInt8] {
        if range.isEmpty { return [] }
        do { return try repository.read(path, most: range.count, range: range) } catch {
            let reason: UpdateFailure.Reason =
                switch error.reason {
                case .gone, .refused(403): .unknownTarget
                case .mismatch, .refused(416): .mismatch
                case .refused, .transfer, .local: .unavailable
                }
            throw UpdateFailure(reason, FileSystem.name(of: path), "\(error)")
        }
    }
}

/// What an installation has cost so far.
public struct DeltaCost: Sendable, Hashable {
    /// Bytes that came over the line, and in how many requests.
    public var fetched = 0
    public var requests = 0
    /// Blocks, or bytes, that were there already: in the slot, or in the running root.
    public var kept = 0

    public init(fetched: Int = 0, requests: Int = 0) { (self.fetched, self.requests) = (fetched, requests) }
}
