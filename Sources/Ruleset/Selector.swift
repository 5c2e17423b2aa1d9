import Documents

/// What of a packet is looked at: the left side of a match, the key of a lookup.
public enum Selector: Sendable, Hashable {
    /// `meta KEY`.
    case meta(Meta)
    /// `ct KEY`.
    case ct(ConnectionKey)
    /// `ct DIRECTION FIELD`: what a connection's packets have in one of its directions, before or behind a translation.
    case tuple(Direction, TupleField)
    /// `exthdr frag exists`: the packet is a fragment by IPv6.
    case isFragment
    /// A field of a header: `tcp dport`.
    case payload(Header, String)
    /// `fib FLAGS RESULT`.
    case fib(Set<FIBFlag>, FIBResult)

    /// Raw values are libnftables' names.
    public enum Meta: String, Sendable, CaseIterable {
        case interface = "iifname"
        case outputInterface = "oifname"
        case l4proto, nfproto, mark, pkttype
    }

    public enum ConnectionKey: String, Sendable, CaseIterable { case state, status, mark, direction, expiration }

    /// IP_CT_DIR_*
    public enum Direction: String, Sendable, CaseIterable { case original, reply }

    /// Raw values are libnftables' names.
    public enum TupleField: String, Sendable, CaseIterable {
        case source4 = "ip saddr"
        case source6 = "ip6 saddr"
        case destination4 = "ip daddr"
        case destination6 = "ip6 daddr"
        case sourcePort = "proto-src"
        case port = "proto-dst"
    }

    public enum Header: String, Sendable, CaseIterable {
        case ether, ip, ip6, tcp, udp, sctp, th, icmp, icmpv6
    }

    public enum FIBFlag: String, Sendable, CaseIterable { case saddr, daddr, mark, iif, oif }

    public enum FIBResult: String, Sendable, CaseIterable {
        /// Matches on whether there is a route: `missing` and `exists`.
        case interface = "oif"
        case kind = "type"
    }
}

/// Where a field stands in its header.
public struct HeaderField: Sendable, Hashable {
    /// NFT_PAYLOAD_*: link layer, network header, transport header.
    public let base: UInt32
    /// Bytes from the header's start.
    public let offset: UInt32
    public let type: DataType
    /// Where a field is a part of its bytes only: the bits that are its own, in a number as long as the bytes.
    public let bits: UInt32?

    private init(_ base: UInt32, _ offset: UInt32, _ type: DataType, bits: UInt32? = nil) {
        self.base = base
        self.offset = offset
        self.type = type
        self.bits = bits
    }

    private static let all: [Selector.Header: [String: HeaderField]] = [
        .ether: [
            "daddr": .init(0, 0, .etherAddress), "saddr": .init(0, 6, .etherAddress),
            "type": .init(0, 12, .etherType),
        ],
        .ip: [
            "dscp": .init(1, 1, .differentiatedServices(1), bits: 0xFC), "length": .init(1, 2, .integer(2)),
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

extension Selector {
    /// What its values are.
    public var type: DataType {
        switch self {
        case .meta(let key):
            switch key {
            case .interface, .outputInterface: .interfaceName
            case .l4proto: .protocolNumber
            case .nfproto: .networkProtocol
            case .mark: .mark
            case .pkttype: .packetType
            }
        case .ct(.state): .ctState
        case .ct(.status): .ctStatus
        case .ct(.mark): .mark
        case .ct(.direction): .ctDirection
        case .ct(.expiration): .time
        case .tuple(_, .source4), .tuple(_, .destination4): .ipv4Address
        case .tuple(_, .source6), .tuple(_, .destination6): .ipv6Address
        case .tuple(_, .sourcePort), .tuple(_, .port): .service
        case .isFragment: .flag
        case .payload(let header, let field): HeaderField.find(header, field)?.type ?? .integer(1)
        case .fib(_, .interface): .boolean
        case .fib(_, .kind): .addressKind
        }
    }

    init?(_ json: JSON) throws(UnsupportedRuleset) {
        guard let (name, body) = json.single else { return nil }
        switch name {
        case "meta":
            guard let key = body["key"]?.text else { throw UnsupportedRuleset(json, "meta wants a key") }
            guard let meta = Meta(rawValue: key) else {
                throw UnsupportedRuleset(json, "meta \(key)", allowed: Meta.allCases.map(\.rawValue))
            }
            self = .meta(meta)
        case "ct":
            if let direction = body["dir"]?.text.flatMap(Direction.init) {
                guard let field = (body["key"]?.text).flatMap(TupleField.init) else {
                    throw UnsupportedRuleset(
                        json, "this ct key with a direction", allowed: TupleField.allCases.map(\.rawValue))
                }
                self = .tuple(direction, field)
                return
            }
            guard let key = body["key"]?.text, let known = ConnectionKey(rawValue: key), body["dir"] == nil else {
                throw UnsupportedRuleset(json, "this ct key", allowed: ConnectionKey.allCases.map(\.rawValue))
            }
            self = .ct(known)
        case "exthdr":
            guard body["name"]?.text == "frag", body["field"] == nil else {
                throw UnsupportedRuleset(json, "this extension header", allowed: ["frag"])
            }
            self = .isFragment
        case "payload":
            guard let header = body["protocol"]?.text.flatMap(Header.init) else {
                throw UnsupportedRuleset(json, "this header", allowed: Header.allCases.map(\.rawValue))
            }
            guard let field = body["field"]?.text, HeaderField.find(header, field) != nil else {
                throw UnsupportedRuleset(
                    json, "this field of \(header.rawValue)", allowed: HeaderField.names(of: header))
            }
            self = .payload(header, field)
        case "fib":
            guard let result = body["result"]?.text.flatMap(FIBResult.init) else {
                throw UnsupportedRuleset(json, "this result of fib", allowed: FIBResult.allCases.map(\.rawValue))
            }
            var flags: Set<FIBFlag> = []
            for flag in body["flags"]?.list ?? [body["flags"] ?? .null] {
                guard let known = flag.text.flatMap(FIBFlag.init) else {
                    throw UnsupportedRuleset(json, "this flag of fib", allowed: FIBFlag.allCases.map(\.rawValue))
                }
                flags.insert(known)
            }
            self = .fib(flags, result)
        default: return nil
        }
    }

    var json: JSON {
        switch self {
        case .meta(let key): ["meta": ["key": .text(key.rawValue)]]
        case .ct(let key): ["ct": ["key": .text(key.rawValue)]]
        case .tuple(let direction, let field):
            ["ct": ["key": .text(field.rawValue), "dir": .text(direction.rawValue)]]
        case .isFragment: ["exthdr": ["name": "frag"]]
        case .payload(let header, let field):
            ["payload": ["protocol": .text(header.rawValue), "field": .text(field)]]
        case .fib(let flags, let result):
            [
                "fib": [
                    "result": .text(result.rawValue),
                    // In nft's own order, which is that of the bits.
                    "flags": .texts(FIBFlag.allCases.filter(flags.contains).map(\.rawValue)),
                ]
            ]
        }
    }
}
