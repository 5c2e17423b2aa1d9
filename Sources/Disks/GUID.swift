import Digests
import Glibc

/// A globally unique identifier as GPT stores it: the first three groups little-endian (UEFI 2.10,
/// appendix A).
public struct GUID: Sendable, Hashable, CustomStringConvertible {
    /// 16 bytes, as on disk.
    public let bytes: [UInt8]

    /// Reads the usual notation, 8-4-4-4-12 hexadecimal digits; nil for anything else.
    public init?(_ text: String) {
        let groups = text.split(separator: "-", omittingEmptySubsequences: false)
        guard groups.map(\.count) == [8, 4, 4, 4, 12] else { return nil }
        var bytes: [UInt8] = []
        for (i, group) in groups.enumerated() {
            guard let value = UInt64(group, radix: 16) else { return nil }
            let big = (0..<group.count / 2).map { UInt8(truncatingIfNeeded: value >> (8 * (group.count / 2 - 1 - $0))) }
            bytes += i < 3 ? big.reversed() : big
        }
        self.bytes = bytes
    }

    /// A name-based identifier (RFC 9562, version 8): the same name gives the same one in every
    /// build.
    public init(named name: String) {
        self.init(random: Array(SHA256.hash(Array(name.utf8)).bytes.prefix(16)), version: 8)
    }

    /// A random identifier (RFC 9562, version 4).
    public static func random() -> GUID {
        var generator = SystemRandomNumberGenerator()
        return GUID(random: (0..<16).map { _ in UInt8.random(in: 0...255, using: &generator) }, version: 4)
    }

    /// 16 bytes as they are on disk.
    init(onDisk bytes: [UInt8]) { self.bytes = bytes }

    private init(random: [UInt8], version: UInt8) {
        var bytes = random
        bytes[7] = bytes[7] & 0x0F | version << 4
        bytes[8] = bytes[8] & 0x3F | 0x80
        self.bytes = bytes
    }

    public var description: String {
        let order = [3, 2, 1, 0, -1, 5, 4, -1, 7, 6, -1, 8, 9, -1, 10, 11, 12, 13, 14, 15]
        return order.map { i in
            if i < 0 { return "-" }
            let hex = String(bytes[i], radix: 16)
            return hex.count == 1 ? "0" + hex : hex
        }.joined()
    }
}
