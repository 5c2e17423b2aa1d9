/// Why a disk is not written, or can't be read.
public struct DiskFailure: Error, Sendable, CustomStringConvertible {
    /// What is wrong, for callers and tests; ``DiskFailure/message`` is for people.
    public enum Reason: Sendable, Hashable {
        /// There is no GUID partition table.
        case noTable
        /// The table's header has another checksum than it says, or numbers that no disk of this
        /// size can have.
        case damagedHeader
        /// The table's entries have another checksum than the header says, or lie outside of the
        /// disk or over each other.
        case damagedEntries
        /// There is no FAT32 file system, or its numbers contradict each other.
        case fileSystem
        /// The disk can't be used: its size, its sectors, or something else uses it.
        case unusable
        /// The disk reads back other bytes than were written.
        case comparison
        case other
    }

    public var reason: Reason
    public var message: String
    public var hint: String?

    public init(_ message: String, reason: Reason = .other, hint: String? = nil) {
        (self.message, self.reason, self.hint) = (message, reason, hint)
    }

    public var description: String { hint.map { "\(message)\n  try: \($0)" } ?? message }
}
