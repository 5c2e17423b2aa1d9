/// Something that keeps an image from being made, with what to do about it.
public struct BuildFailure: Error, Sendable, CustomStringConvertible {
    public var message: String
    public var hint: String?

    public init(_ message: String, hint: String? = nil) {
        self.message = message
        self.hint = hint
    }

    public var description: String { "error: \(message)" + (hint.map { "\n  try: \($0)" } ?? "") }
}
