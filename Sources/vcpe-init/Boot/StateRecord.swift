import CSystem
import Checksums
import Glibc

/// What PID 1 remembers without a file system: the state partition's two records, written in turn, so that a power cut
/// leaves one of them whole.
struct StateRecord {
    /// The boot entry whose starts are counted; 0 for none.
    var entry: UInt32 = 0
    /// Starts since the last one that was judged good.
    var failedStarts: UInt32 = 0
    /// Good starts in a row that ended without a word before they had run for long: power that comes and goes, or a
    /// fault that shows only later. Cleared by an orderly end and by a long run.
    var suddenEnds: UInt16 = 0
    /// Data may be made here although the disk is removable.
    private(set) var mayFormatRemovable = false
    /// The data partition is being formatted: if this is found at a start, it never was finished.
    var isFormatting = false
    /// Starts of the other release, since those of this one had failed too often.
    var jumps: UInt16 = 0
    /// The next start is such a one.
    var isJump = false
    /// Why the last start failed.
    var reason = ""
    private var sequence: UInt64 = 0
    private let path: String

    private static let magic = Array("vcpestat".utf8)
    private static let size = 4096
    /// Behind the reason.
    private static let jumpPlace = 2048

    /// Reads the newer of the records; a blank partition is a box that never started.
    init(path: String) {
        self.path = path
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else {
            Console.say("the state can't be read: \(Failure("open", path))")
            return
        }
        defer { close(file) }
        for place in 0..<2 {
            let bytes = Bytes.read(file, Self.size, at: place * Self.size)
            guard bytes.count == Self.size, bytes.starts(with: Self.magic),
                let checksum = Bytes.integer(bytes, Self.size - 4, UInt32.self),
                CRC32.iso(Array(bytes[..<(Self.size - 4)])) == checksum,
                let sequence = Bytes.integer(bytes, 8, UInt64.self), sequence >= self.sequence, sequence < .max,
                let failed = Bytes.integer(bytes, 16, UInt32.self)
            else { continue }
            self.sequence = sequence
            failedStarts = min(failed, 1_000_000)
            isFormatting = bytes[20] == 1
            mayFormatRemovable = bytes[21] == 1
            suddenEnds = Bytes.integer(bytes, 22, UInt16.self) ?? 0
            jumps = Bytes.integer(bytes, Self.jumpPlace, UInt16.self) ?? 0
            isJump = bytes[Self.jumpPlace + 2] == 1
            entry = Bytes.integer(bytes, Self.jumpPlace + 4, UInt32.self) ?? 0
            reason = String(decoding: bytes[24..<(Self.size - 4)].prefix { $0 != 0 }, as: UTF8.self)
        }
    }

    /// A disk is pulled out again, as nobody has said that it is the box's own: nothing is kept on it.
    func isStick(_ disk: Disk) -> Bool {
        disk.isRemovable && !mayFormatRemovable && CommandLineOption.value("vcpe.format-removable") == nil
    }

    /// Writes the record over the older of the two and waits until it is on the disk.
    mutating func save() throws(Failure) {
        sequence &+= 1
        var bytes = Self.magic + [UInt8](repeating: 0, count: Self.size - Self.magic.count)
        Bytes.put(sequence, &bytes, 8)
        Bytes.put(failedStarts, &bytes, 16)
        bytes[20] = isFormatting ? 1 : 0
        bytes[21] = mayFormatRemovable ? 1 : 0
        Bytes.put(suddenEnds, &bytes, 22)
        Bytes.put(jumps, &bytes, Self.jumpPlace)
        bytes[Self.jumpPlace + 2] = isJump ? 1 : 0
        Bytes.put(entry, &bytes, Self.jumpPlace + 4)
        for (i, byte) in reason.utf8.prefix(1000).enumerated() { bytes[24 + i] = byte }
        Bytes.put(CRC32.iso(Array(bytes[..<(Self.size - 4)])), &bytes, Self.size - 4)
        let file = open(path, O_WRONLY | O_CLOEXEC)
        guard file >= 0 else { throw Failure("open", path) }
        defer { close(file) }
        guard Bytes.write(file, bytes, at: Int(sequence % 2) * Self.size), fsync(file) == 0 else {
            throw Failure("write", path)
        }
    }
}
