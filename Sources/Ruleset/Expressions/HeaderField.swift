/// Where a field stands in its header.
public struct HeaderField: Sendable, Hashable {
    /// NFT_PAYLOAD_*: link layer, network header, transport header.
    public let base: UInt32
    /// Bytes from the header's start.
    public let offset: UInt32
    public let type: DataType
    /// Where a field is a part of its bytes only: the bits that are its own, in a number as long as the bytes.
    public let bits: UInt32?
    /// Bytes from the header's start to a checksum that covers the field; nil for none.
    public let checksum: UInt32?

    private init(_ base: UInt32, _ offset: UInt32, _ type: DataType, bits: UInt32? = nil, checksum: UInt32? = nil) {
        self.base = base
        self.offset = offset
        self.type = type
        self.bits = bits
        self.checksum = checksum
    }

    private static let all: [Selector.Header: [String: HeaderField]] = [
        .ether: [
            "daddr": .init(0, 0, .etherAddress), "saddr": .init(0, 6, .etherAddress),
            "type": .init(0, 12, .etherType),
        ],
        .ip: [
            "dscp": .init(1, 1, .differentiatedServices(1), bits: 0xFC, checksum: 10),
            "length": .init(1, 2, .integer(2)),
            "frag-off": .init(1, 6, .integer(2)), "ttl": .init(1, 8, .integer(1)),
            "protocol": .init(1, 9, .protocolNumber), "saddr": .init(1, 12, .ipv4Address),
            "daddr": .init(1, 16, .ipv4Address),
        ],
        .ip6: [
            "dscp": .init(1, 0, .differentiatedServices(2), bits: 0x0FC0),
            "length": .init(1, 4, .integer(2)), "nexthdr": .init(1, 6, .protocolNumber),
            "hoplimit": .init(1, 7, .integer(1)), "saddr": .init(1, 8, .ipv6Address),
            "daddr": .init(1, 24, .ipv6Address),
        ],
        .tcp: [
            "sport": .init(2, 0, .service), "dport": .init(2, 2, .service), "flags": .init(2, 13, .tcpFlag),
        ],
        .udp: ["sport": .init(2, 0, .service), "dport": .init(2, 2, .service)],
        .sctp: ["sport": .init(2, 0, .service), "dport": .init(2, 2, .service)],
        .th: ["sport": .init(2, 0, .service), "dport": .init(2, 2, .service)],
        .icmp: ["type": .init(2, 0, .icmpType), "code": .init(2, 1, .icmpCode)],
        .icmpv6: ["type": .init(2, 0, .icmpv6Type), "code": .init(2, 1, .icmpv6Code)],
    ]

    /// The field of a header; nil for one that isn't supported.
    public static func find(_ header: Selector.Header, _ name: String) -> HeaderField? { all[header]?[name] }

    /// The names of a header's fields.
    public static func names(of header: Selector.Header) -> [String] { (all[header] ?? [:]).keys.sorted() }
}
