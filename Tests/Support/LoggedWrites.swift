import Files
import Glibc

/// What QEMU's `blklogwrites` has written down of a disk (the kernel's dm-log-writes format).
public struct LoggedWrites {
    public struct Entry: Sendable {
        /// Bytes from the start of the disk, and how many.
        public var offset: Int
        public var count: Int
        /// All that was written before is on the disk.
        public var isFlush: Bool
        /// Where its data are in the log; nil for what has none.
        fileprivate var place: Int?

        public var range: Range<Int> { offset..<offset + count }
    }

    private let log: File
    public let entries: [Entry]

    private static let magic: UInt64 = 0x6A_736677_736872

    /// - Throws: for a file that is no such log.
    public init(_ path: String) throws {
        log = try File(path)
        func number(_ bytes: [UInt8], _ place: Int) -> Int {
            bytes[place..<place + 8].reversed().reduce(0) { $0 << 8 | Int($1) }
        }
        let head = try log.read(512, at: 0)
        guard head.count == 512, number(head, 0) == Int(Self.magic) else {
            throw SystemError("read", path, code: EINVAL)
        }
        let sector = head[24..<28].reversed().reduce(0) { $0 << 8 | Int($1) }
        var (entries, place): ([Entry], Int) = ([], sector)
        for _ in 0..<number(head, 16) {
            let bytes = try log.read(32, at: place)
            guard bytes.count == 32 else { break }
            let (count, flags) = (number(bytes, 8) * sector, number(bytes, 16))
            // A discard says what is no longer wanted, and brings nothing.
            let isDiscard = flags & 4 != 0
            entries.append(
                Entry(
                    offset: number(bytes, 0) * sector, count: count, isFlush: flags & 3 != 0,
                    place: isDiscard || count == 0 ? nil : place + sector))
            place += sector + (isDiscard ? 0 : count)
        }
        self.entries = entries
    }

    /// Some of what was written at once, by places within it; nothing of what brings nothing.
    public func read(_ entry: Entry, _ bytes: Range<Int>) throws -> [UInt8] {
        guard let place = entry.place else { return [] }
        return try log.read(bytes.count, at: place + bytes.lowerBound)
    }

    /// Brings one write onto a disk.
    public func apply(_ entry: Entry, to disk: File) throws {
        try disk.write(try read(entry, 0..<entry.count), at: entry.offset)
    }
}
