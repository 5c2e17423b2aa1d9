import Glibc

/// An IPv4 or IPv6 address.
///
/// A value without references: a table of connections has four of them in each row.
public struct IPAddress: Sendable, Hashable, Comparable, BitwiseCopyable, CustomStringConvertible {
    public enum Family: Sendable, Hashable, CaseIterable, BitwiseCopyable {
        case ipv4, ipv6

        /// Bytes of an address.
        public var length: Int { self == .ipv4 ? 4 : 16 }
        /// AF_INET or AF_INET6.
        public var number: Int32 { self == .ipv4 ? AF_INET : AF_INET6 }
    }

    public let family: Family

    /// Its bits as a number; of IPv4 in the lower 32.
    public let value: UInt128

    /// As on the wire: 4 or 16.
    public var bytes: [UInt8] {
        (0..<family.length).reversed().map { UInt8(truncatingIfNeeded: value >> UInt128(8 * $0)) }
    }

    /// From 4 or 16 bytes; nil for another count.
    public init?(_ bytes: some Collection<UInt8>) {
        switch bytes.count {
        case 4: family = .ipv4
        case 16: family = .ipv6
        default: return nil
        }
        value = bytes.reduce(0) { $0 << 8 | UInt128($1) }
    }

    /// From text as inet_pton(3) takes it; no prefix length, no zone.
    public init?(_ text: String) {
        if let value = Self.ipv4(text) {
            self.init(.ipv4, value: value)
            return
        }
        guard text.utf8.contains(UInt8(ascii: ":")) else { return nil }
        var bytes = [UInt8](repeating: 0, count: Family.ipv6.length)
        guard inet_pton(AF_INET6, text, &bytes) == 1 else { return nil }
        self.init(bytes)
    }

    /// As inet_pton(3) does: four decimal numbers without leading zeros. By hand, since documents
    /// have a hundred thousand of them.
    private static func ipv4(_ text: String) -> UInt128? {
        var (value, part, digits, parts): (UInt32, UInt32, Int, Int) = (0, 0, 0, 1)
        for byte in text.utf8 {
            if byte == UInt8(ascii: ".") {
                guard digits > 0, parts < 4 else { return nil }
                (value, part, digits, parts) = (value << 8 | part, 0, 0, parts + 1)
                continue
            }
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9"), digits == 0 || part > 0 else { return nil }
            part = part * 10 + UInt32(byte - UInt8(ascii: "0"))
            digits += 1
            guard part <= 255 else { return nil }
        }
        return parts == 4 && digits > 0 ? UInt128(value << 8 | part) : nil
    }

    /// From its bits as a number; of IPv4 the lower 32.
    public init(_ family: Family, value: UInt128) {
        self.family = family
        self.value = family == .ipv4 ? value & UInt128(UInt32.max) : value
    }

    public var description: String {
        if family == .ipv4 {
            let number = UInt32(truncatingIfNeeded: value)
            return String(unsafeUninitializedCapacity: 15) { buffer in
                var count = 0
                func write(_ byte: UInt8) {
                    buffer[count] = byte
                    count += 1
                }
                for shift in stride(from: 24, through: 0, by: -8) {
                    let part = UInt8(truncatingIfNeeded: number >> UInt32(shift))
                    if part >= 100 { write(0x30 + part / 100) }
                    if part >= 10 { write(0x30 + part / 10 % 10) }
                    write(0x30 + part % 10)
                    if shift > 0 { write(UInt8(ascii: ".")) }
                }
                return count
            }
        }
        var buffer = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        guard inet_ntop(family.number, bytes, &buffer, socklen_t(buffer.count)) != nil else { return "?" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// All of IPv4 before all of IPv6.
    public static func < (left: IPAddress, right: IPAddress) -> Bool {
        left.family == right.family ? left.value < right.value : left.family == .ipv4
    }

    /// 224.0.0.0/4 or ff00::/8.
    public var isMulticast: Bool { family == .ipv4 ? value >> 28 == 0xE : value >> 120 == 0xFF }
    /// 127.0.0.0/8 or ::1.
    public var isLoopback: Bool { family == .ipv4 ? value >> 24 == 127 : value == 1 }
    /// fe80::/10 or 169.254.0.0/16.
    public var isLinkLocal: Bool { family == .ipv4 ? value >> 16 == 0xA9FE : value >> 118 == 0x3FA }
    public var isUnspecified: Bool { value == 0 }
}

/// An address and how many of its bits name the network: `192.168.1.1/24`.
public struct IPPrefix: Sendable, Hashable, CustomStringConvertible {
    /// May have bits beyond `length`: then it is an interface's own address with its network.
    public let address: IPAddress
    /// Bits.
    public let length: Int

    /// Nil when the length is none of the address's family.
    public init?(_ address: IPAddress, length: Int) {
        guard length >= 0, length <= 8 * address.family.length else { return nil }
        self.address = address
        self.length = length
    }

    /// From `ADDRESS/LENGTH`; an address alone is a whole one.
    public init?(_ text: String) {
        if !text.utf8.contains(UInt8(ascii: "/")) {
            guard let address = IPAddress(text) else { return nil }
            self.init(address, length: 8 * address.family.length)
            return
        }
        let parts = text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map(Substring.init)
        guard parts.count == 2, let address = IPAddress(String(parts[0])) else { return nil }
        guard parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }), parts[1].utf8.count <= 3,
            let length = Int(parts[1])
        else { return nil }
        self.init(address, length: length)
    }

    public var description: String { "\(address)/\(length)" }

    public var family: IPAddress.Family { address.family }

    /// The bits of an address that name a host.
    private var hostBits: UInt128 { (1 << UInt128(8 * family.length - length)) &- 1 }

    /// The network: without the bits beyond the length.
    public var network: IPPrefix { IPPrefix(network: self) }

    private init(network prefix: IPPrefix) {
        address = IPAddress(prefix.family, value: prefix.address.value & ~prefix.hostBits)
        length = prefix.length
    }

    /// The network's last address; of IPv4 its broadcast address.
    public var last: IPAddress { IPAddress(family, value: address.value | hostBits) }

    /// True for a network without bits beyond the length.
    public var isNetwork: Bool { network.address == address }

    public func contains(_ other: IPAddress) -> Bool {
        other.family == family && (address.value ^ other.value) & ~hostBits == 0
    }

    /// True when some address lies in both.
    public func overlaps(_ other: IPPrefix) -> Bool {
        length <= other.length ? contains(other.address) : other.contains(address)
    }
}

/// The six bytes of a network card's address.
public struct MACAddress: Sendable, Hashable, CustomStringConvertible {
    public let bytes: [UInt8]

    public init?(_ bytes: some Collection<UInt8>) {
        guard bytes.count == 6 else { return nil }
        self.bytes = Array(bytes)
    }

    /// From six groups of two hexadecimal digits between colons.
    public init?(_ text: String) {
        let groups = text.split(separator: ":", omittingEmptySubsequences: false)
        self.init(groups.compactMap { $0.utf8.count == 2 ? UInt8($0, radix: 16) : nil })
        guard groups.count == 6 else { return nil }
    }

    public var description: String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
    }
}
