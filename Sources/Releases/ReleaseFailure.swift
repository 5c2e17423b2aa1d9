/// Why a repository was not made, or not changed: nothing of it was published.
public struct ReleaseFailure: Error, Sendable, CustomStringConvertible {
    public var message: String
    public var hint: String?

    public init(_ message: String, hint: String? = nil) {
        self.message = message
        self.hint = hint
    }

    public var description: String { message + (hint.map { "\n  try: \($0)" } ?? "") }
}
