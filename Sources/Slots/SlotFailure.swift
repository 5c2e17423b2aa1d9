import Files

/// Why the box's slots and boot entries stay as they are.
public struct SlotFailure: Error, Sendable, Hashable, CustomStringConvertible {
    public var message: String
    public var hint: String?

    public init(_ message: String, hint: String? = nil) { (self.message, self.hint) = (message, hint) }

    init(_ error: SystemError) { self.init("\(error)") }

    public var description: String { hint.map { "\(message)\n  try: \($0)" } ?? message }
}
