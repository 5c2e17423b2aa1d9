/// Why a file of a repository was not accepted.
public struct UpdateFailure: Error, Sendable, Hashable, CustomStringConvertible {
    public enum Reason: String, Sendable, CaseIterable {
        /// Too few valid signatures.
        case signature
        /// Older than a version that was accepted before.
        case rollback
        /// Past its expiry date: the repository was not signed again, or newer metadata is
        /// withheld.
        case expired
        /// Another version, length or hash than the signed one.
        case mismatch
        /// Not allowed by the format.
        case malformed
        /// No role signs for a target of that name.
        case unknownTarget = "unknown-target"
        /// The repository could not be read: its server, or the network.
        case unavailable
        /// Longer than allowed, or than the signed length.
        case tooLong = "too-long"
        /// This machine's disk.
        case storage
    }

    public var reason: Reason
    /// The role, the file or the target.
    public var name: String
    public var message: String

    public init(_ reason: Reason, _ name: String, _ message: String) {
        self.reason = reason
        self.name = name
        self.message = message
    }

    public var description: String { "\(name): \(message)" }

    /// Whether the contents were wrong; another mirror may have the right ones.
    var concernsContents: Bool { ![.unknownTarget, .unavailable, .storage].contains(reason) }
}
