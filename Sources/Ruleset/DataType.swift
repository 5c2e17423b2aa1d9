/// A type of keys, values and fields, by nft's own numbers (`src/datatype.c` and `include/datatype.h` of nftables).
public struct DataType: Sendable, Hashable {
    public enum ByteOrder: UInt32, Sendable {
        case host = 1
        /// As on the wire.
        case big = 2
    }

    public let name: String
    /// nft's number, as in the key type of a set.
    public let number: UInt32
    /// Bytes.
    public let length: Int
    public let byteOrder: ByteOrder
    /// Names of values, each with its number; nft prints them by these.
    public let symbols: [String: UInt64]
    /// A value is a set of bits.
    public var isBitmask = false

    private init(
        _ name: String, _ number: UInt32, _ length: Int, _ byteOrder: ByteOrder = .big,
        _ symbols: [String: UInt64] = [:],
        isBitmask: Bool = false
    ) {
        self.name = name
        self.number = number
        self.length = length
        self.byteOrder = byteOrder
        self.symbols = symbols
        self.isBitmask = isBitmask
    }

    public static let ipv4Address = DataType("ipv4_addr", 7, 4)
    public static let ipv6Address = DataType("ipv6_addr", 8, 16)
    public static let etherAddress = DataType("ether_addr", 9, 6)
    public static let etherType = DataType("ether_type", 10, 2, .big, ["ip": 0x0800, "arp": 0x0806, "ip6": 0x86DD])
    public static let networkProtocol = DataType("nf_proto", 2, 1, .host, ["ipv4": 2, "ipv6": 10])
    public static let protocolNumber = DataType("inet_proto", 12, 1, .big, Symbols.protocols)
    public static let service = DataType("inet_service", 13, 2)
    public static let icmpType = DataType("icmp_type", 14, 1, .big, Symbols.icmpTypes)
    public static let tcpFlag = DataType("tcp_flag", 15, 1, .host, Symbols.tcpFlags, isBitmask: true)
    public static let mark = DataType("mark", 19, 4, .host)
    public static let ctState = DataType("ct_state", 26, 4, .host, Symbols.ctStates, isBitmask: true)
    public static let ctStatus = DataType("ct_status", 28, 4, .host, Symbols.ctStatuses, isBitmask: true)
    public static let icmpv6Type = DataType("icmpv6_type", 29, 1, .big, Symbols.icmpv6Types)
    public static let packetType = DataType(
        "pkt_type", 31, 1, .host, ["host": 0, "unicast": 0, "broadcast": 1, "multicast": 2, "other": 3])
    public static let icmpCode = DataType("icmp_code", 32, 1, .big, Symbols.icmpCodes)
    public static let icmpv6Code = DataType("icmpv6_code", 33, 1, .big, Symbols.icmpv6Codes)
    public static let addressKind = DataType("fib_addrtype", 38, 4, .host, Symbols.addressKinds)
    public static let boolean = DataType("boolean", 39, 4, .host)
    /// The same in one byte, as in an extension header's being there.
    public static let flag = DataType("boolean", 39, 1, .host)
    /// Milliseconds; in nft's language seconds.
    public static let time = DataType("time", 18, 4, .host)
    public static let ctDirection = DataType("ct_dir", 27, 1, .host, ["original": 0, "reply": 1])
    public static let interfaceName = DataType("ifname", 41, 16, .host)
    /// Six bits of RFC 2474 within so many bytes.
    public static func differentiatedServices(_ length: Int) -> DataType {
        DataType("dscp", 36, length, .big, Symbols.codePoints)
    }
    /// A number without a name of its own.
    public static func integer(_ length: Int) -> DataType { DataType("integer", 4, length) }
    /// The same in the host's order.
    public static func hostInteger(_ length: Int) -> DataType { DataType("integer", 4, length, .host) }
    /// A handle of traffic control, `MAJOR:MINOR` in hexadecimal digits.
    public static let trafficClass = DataType("classid", 23, 4, .host)

    /// The types that a set's key or a map's value may be declared as.
    public static let named: [String: DataType] = Dictionary(
        [
            ipv4Address, ipv6Address, etherAddress, protocolNumber, service, icmpType, icmpv6Type, mark, ctState,
            interfaceName, trafficClass,
        ].map { ($0.name, $0) }
    ) { $1 }

    /// Bytes in a register: whole 32-bit words.
    public var paddedLength: Int { (length + 3) / 4 * 4 }
}

/// The names of values, as nft knows them.
enum Symbols {
    static let protocols: [String: UInt64] = [
        "icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "dccp": 33, "ipv6-icmp": 58, "icmpv6": 58, "gre": 47, "esp": 50,
        "ah": 51, "comp": 108, "sctp": 132, "udplite": 136,
    ]
    static let icmpTypes: [String: UInt64] = [
        "echo-reply": 0, "destination-unreachable": 3, "source-quench": 4, "redirect": 5, "echo-request": 8,
        "router-advertisement": 9, "router-solicitation": 10, "time-exceeded": 11, "parameter-problem": 12,
        "timestamp-request": 13, "timestamp-reply": 14, "info-request": 15, "info-reply": 16,
        "address-mask-request": 17, "address-mask-reply": 18,
    ]
    static let icmpv6Types: [String: UInt64] = [
        "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4,
        "echo-request": 128, "echo-reply": 129, "mld-listener-query": 130, "mld-listener-report": 131,
        "mld-listener-done": 132, "mld-listener-reduction": 132, "nd-router-solicit": 133, "nd-router-advert": 134,
        "nd-neighbor-solicit": 135, "nd-neighbor-advert": 136, "nd-redirect": 137, "router-renumbering": 138,
        "ind-neighbor-solicit": 141, "ind-neighbor-advert": 142, "mld2-listener-report": 143,
    ]
    static let icmpCodes: [String: UInt64] = [
        "net-unreachable": 0, "host-unreachable": 1, "prot-unreachable": 2, "port-unreachable": 3,
        "frag-needed": 4, "net-prohibited": 9, "host-prohibited": 10, "admin-prohibited": 13,
    ]
    static let icmpv6Codes: [String: UInt64] = [
        "no-route": 0, "admin-prohibited": 1, "addr-unreachable": 3, "port-unreachable": 4, "policy-fail": 5,
        "reject-route": 6,
    ]
    /// Codes of `reject with icmpx`, which fit both families.
    static let icmpxCodes: [String: UInt64] = [
        "no-route": 0, "port-unreachable": 1, "host-unreachable": 2, "admin-prohibited": 3,
    ]
    static let tcpFlags: [String: UInt64] = [
        "fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128,
    ]
    static let ctStates: [String: UInt64] = [
        "invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64,
    ]
    static let ctStatuses: [String: UInt64] = [
        "expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 16, "dnat": 32, "dying": 512,
    ]
    static let addressKinds: [String: UInt64] = [
        "unspec": 0, "unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5, "blackhole": 6,
        "unreachable": 7, "prohibit": 8,
    ]
    /// RFC 2474, 2597, 3246 and 8622.
    static let codePoints: [String: UInt64] = [
        "cs0": 0, "cs1": 8, "cs2": 16, "cs3": 24, "cs4": 32, "cs5": 40, "cs6": 48, "cs7": 56, "af11": 10, "af12": 12,
        "af13": 14, "af21": 18, "af22": 20, "af23": 22, "af31": 26, "af32": 28, "af33": 30, "af41": 34, "af42": 36,
        "af43": 38, "ef": 46, "lephb": 1,
    ]
    /// syslog(3)'s, by nft's names.
    static let logLevels = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"]
}
