/// Why a disk is not written, or can't be read.
public struct DiskFailure: Error, Sendable, CustomStringConvertible {
    public var message: String
    public var hint: String?

    public init(_ message: String, hint: String? = nil) { (self.message, self.hint) = (message, hint) }

    public var description: String { hint.map { "\(message)\n  try: \($0)" } ?? message }
}
