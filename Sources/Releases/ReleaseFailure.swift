/// Why a repository was not made, or not changed. Nothing was published.
public struct ReleaseFailure: Error, Sendable, CustomStringConvertible {
    /// What tests and callers distinguish.
    public enum Reason: String, Sendable, CaseIterable {
        /// Anything that needs no distinction.
        case refused
        /// A file of the repository is damaged; ``ReleaseFailure/path`` names it.
        case damaged
        /// A version, or a release, that exists already.
        case exists
        /// What is waiting for signatures does not follow what is published.
        case doesNotFollow = "does-not-follow"
        /// The confirmation does not match what was shown.
        case notConfirmed = "not-confirmed"
        /// No private key for what has to be signed is available.
        case noKey = "no-key"
    }

    public var message: String
    /// What to do.
    public var hint: String?
    public var reason: Reason
    /// The file at fault; nil where it is none.
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
                ?? "copy the file from a mirror or a backup, or vcpe release repair, which makes online roles anew",
            reason: .damaged, path: file)
    }

    public var description: String { message + (hint.map { "\n  try: \($0)" } ?? "") }
}
