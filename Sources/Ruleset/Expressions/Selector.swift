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
    /// `ct zone`, of one direction or of both.
    case zone(Direction?)
    /// `ct packets` and `ct bytes`, of one direction or of both; 0 while the kernel does not count (`nf_conntrack_acct`).
    case traffic(Direction?, Traffic)
    /// `tcp option NAME FIELD`.
    case tcpOption(TCPOption, TCPOptionField)
    /// `rt mtu`: the largest segment of TCP that the route has room for; in `forward`, `output` and `postrouting`.
    case routeMTU
    /// A field of a mark, by its name in the plugin's manifest. It is a plan's: the engine puts bits of the
    /// mark in its place before anything is sent to the kernel.
    case markField(MarkHolder, String)

    /// Raw values are libnftables' names.
    public enum Meta: String, Sendable, CaseIterable {
        case interface = "iifname"
        case outputInterface = "oifname"
        case l4proto, nfproto, mark, pkttype
        /// The class of a queueing discipline.
        case priority
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

    public enum Traffic: String, Sendable, CaseIterable { case packets, bytes }

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
            case .priority: .trafficClass
            }
        case .ct(.state): .ctState
        case .ct(.status): .ctStatus
        case .ct(.mark), .markField: .mark
        case .ct(.direction): .ctDirection
        case .ct(.expiration): .time
        case .tuple(_, .source4), .tuple(_, .destination4): .ipv4Address
        case .tuple(_, .source6), .tuple(_, .destination6): .ipv6Address
        case .tuple(_, .sourcePort), .tuple(_, .port): .service
        case .isFragment: .flag
        case .payload(let header, let field): HeaderField.find(header, field)?.type ?? .integer(1)
        case .fib(_, .interface): .boolean
        case .fib(_, .kind): .addressKind
        case .zone, .routeMTU: .hostInteger(2)
        case .traffic: .hostInteger(8)
        case .tcpOption(_, .presence): .flag
        case .tcpOption(let option, .value): .integer(option.length)
        }
    }

    /// Something is there, or it isn't.
    var isBoolean: Bool {
        switch self {
        case .fib(_, .interface), .isFragment, .tcpOption(_, .presence): true
        default: false
        }
    }

    init?(_ json: JSON) throws(UnsupportedRuleset) {
        guard let (name, body) = json.single else { return nil }
        switch name {
        case "meta":
            if let field = try Self.markField(.packet, body, of: json) {
                self = field
                return
            }
            guard let key = body["key"]?.text else { throw UnsupportedRuleset(json, "meta wants a key") }
            guard let meta = Meta(rawValue: key) else {
                throw UnsupportedRuleset(json, "meta \(key)", allowed: Meta.allCases.map(\.rawValue))
            }
            self = .meta(meta)
        case "payload":
            guard let header = body["protocol"]?.text.flatMap(Header.init) else {
                throw UnsupportedRuleset(json, "this header", allowed: Header.allCases.map(\.rawValue))
            }
            guard let field = body["field"]?.text, HeaderField.find(header, field) != nil else {
                throw UnsupportedRuleset(
                    json, "this field of \(header.rawValue)", allowed: HeaderField.names(of: header))
            }
            self = .payload(header, field)
        case "ct": self = try Self.connection(body, of: json)
        case "tcp option": self = try Self.tcpOption(body, of: json)
        case "rt":
            guard body["key"]?.text == "mtu" else { throw UnsupportedRuleset(json, "this rt key", allowed: ["mtu"]) }
            self = .routeMTU
        case "exthdr":
            guard body["name"]?.text == "frag", body["field"] == nil else {
                throw UnsupportedRuleset(json, "this extension header", allowed: ["frag"])
            }
            self = .isFragment
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
        case .zone(let direction): Self.connection("zone", direction)
        case .traffic(let direction, let traffic): Self.connection(traffic.rawValue, direction)
        case .tcpOption(let option, let field): option.json(field)
        case .routeMTU: ["rt": ["key": "mtu"]]
        case .markField(let holder, let name):
            .object([holder.rawValue: .object(["key": "mark", "field": .text(name)])])
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
