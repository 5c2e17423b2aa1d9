/// Why a repository was not created or changed. Nothing was published.
public struct ReleaseFailure: Error, Sendable, CustomStringConvertible {
    /// What tests and callers distinguish.
    public enum Reason: String, Sendable, CaseIterable {
        /// Any other reason.
        case refused
        /// The file ``ReleaseFailure/path`` of the repository is damaged.
        case damaged
        /// A version or a release exists already.
        case exists
        /// The waiting change does not follow the published metadata.
        case doesNotFollow = "does-not-follow"
        /// The confirmation does not match what was shown.
        case notConfirmed = "not-confirmed"
        /// No private key is available for a required signature.
        case noKey = "no-key"
    }

    public var message: String
    /// What to do.
    public var hint: String?
    public var reason: Reason
    /// The file at fault, if there is one.
    public var path: String?

    public init(_ message: String, hint: String? = nil, reason: Reason = .refused, path: String? = nil) {
        self.message = message
        self.hint = hint
        self.reason = reason
        self.path = path
    }

    static func damaged(_ file: String, _ what: String, hint: String? = nil) -> ReleaseFailure {
        ReleaseFailure(
            "\(file): \(what)",
            hint: hint
                ?? "copy the file from a mirror or a backup, or run vcpe release repair for online roles",
            reason: .damaged, path: file)
    }

    public var description: String { message + (hint.map { "\n  try: \($0)" } ?? "") }
}
