import Files
import Transfers

/// A file of a repository that is read in pieces.
public protocol DeltaSource {
    /// Reads exactly these bytes.
    func read(_ range: Range<Int>) throws(UpdateFailure) -> [UInt8]
}

/// A file of a repository, read by HTTP range requests (RFC 9110, section 14).
public struct HTTPDeltaSource: DeltaSource {
    private let repository: Repository
    private let path: String

    /// - Parameter path: the path below the repository's addresses.
    public init(_ repository: Repository, _ path: String) { (self.repository, self.path) = (repository, path) }

    public func read(_ range: Range<Int>) throws(UpdateFailure) -> [UInt8] {
        if range.isEmpty { return [] }
        do {
            return try repository.read(
                path, most: range.count, range: range, deadline: repository.deadline(for: range.count))
        } catch {
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

/// What an installation has fetched so far.
public struct DeltaCost: Sendable, Hashable {
    /// Bytes that were fetched.
    public var fetched = 0
    public var requests = 0
    /// Blocks (of a block delta) or bytes (of a patch) that were already in the slot or in the
    /// running root.
    public var kept = 0

    public init(fetched: Int = 0, requests: Int = 0) { (self.fetched, self.requests) = (fetched, requests) }
}
