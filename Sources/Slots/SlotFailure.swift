import Files

/// Why the box's slots and boot entries stay as they are.
public struct SlotFailure: Error, Sendable, Hashable, CustomStringConvertible {
    public var message: String
    public var hint: String?

    public init(_ message: String, hint: String? = nil) { (self.message, self.hint) = (message, hint) }

    init(_ error: SystemError) { self.init("\(error)") }

    public var description: String { hint.map { "\(message)\n  try: \($0)" } ?? message }
}

extension RandomAccess {
    func bytes(_ count: Int, at offset: Int) throws(SlotFailure) -> [UInt8] {
        do { return try read(count, at: offset) } catch { throw SlotFailure(error) }
    }

    func put(_ bytes: [UInt8], at offset: Int) throws(SlotFailure) {
        do { try write(bytes, at: offset) } catch { throw SlotFailure(error) }
    }

    func wait() throws(SlotFailure) { do { try sync() } catch { throw SlotFailure(error) } }
}
