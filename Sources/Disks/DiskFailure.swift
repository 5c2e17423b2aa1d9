/// An error that prevents reading or writing a disk.
public struct DiskFailure: Error, Sendable, CustomStringConvertible {
    /// The cause, for callers and tests; ``DiskFailure/message`` is for the operator.
    public enum Reason: Sendable, Hashable {
        /// There is no GUID partition table.
        case noTable
        /// The checksum of the table's header is wrong, or its numbers are impossible for this
        /// disk.
        case damagedHeader
        /// The checksum of the table's entries is wrong, or partitions overlap or lie outside of
        /// the disk.
        case damagedEntries
        /// There is no FAT32 file system, or its numbers contradict each other.
        case fileSystem
        /// The disk is unusable because of its size or its sectors, or because it is in use.
        case unusable
        /// Bytes read back from the disk differ from the bytes written.
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
