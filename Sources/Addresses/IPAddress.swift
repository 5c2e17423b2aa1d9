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
        for family in Family.allCases {
            var bytes = [UInt8](repeating: 0, count: family.length)
            if inet_pton(family.number, text, &bytes) == 1 {
                self.init(bytes)
                return
            }
        }
        return nil
    }

    /// From its bits as a number; of IPv4 the lower 32.
    public init(_ family: Family, value: UInt128) {
        self.family = family
        self.value = family == .ipv4 ? value & UInt128(UInt32.max) : value
    }

    public var description: String {
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
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard let address = parts.first.flatMap({ IPAddress(String($0)) }), parts.count <= 2 else { return nil }
        guard parts.count == 2 else {
            self.init(address, length: 8 * address.family.length)
            return
        }
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
