/// Why nothing was taken from a repository: what stood there, or what is wrong with it.
public struct UpdateFailure: Error, Sendable, Hashable, CustomStringConvertible {
    public enum Reason: String, Sendable, CaseIterable {
        /// Too few valid signatures.
        case signature
        /// Older than what was seen before.
        case rollback
        /// Not valid any more: the repository stands still, or somebody holds back what is newer.
        case expired
        /// Another version, length or hash than what is signed.
        case mismatch
        /// Not what the format allows.
        case malformed
        /// Nobody signed for a target of that name.
        case unknownTarget = "unknown-target"
        /// The repository, or the way there.
        case unavailable
        /// Longer than is allowed, or than was promised.
        case tooLong = "too-long"
        /// The disk of this machine.
        case storage
    }

    public var reason: Reason
    /// The metadata or the target.
    public var name: String
    public var message: String

    public init(_ reason: Reason, _ name: String, _ message: String) {
        self.reason = reason
        self.name = name
        self.message = message
    }

    public var description: String { "\(name): \(message)" }

    /// What stood there is wrong: a mirror may have what is right.
    var isOfContents: Bool { ![.unknownTarget, .unavailable, .storage].contains(reason) }
}
