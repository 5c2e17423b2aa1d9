import Documents

extension Statement {
    public enum Rejection: StatementType {
        case tcpReset
        /// A code of `icmpx`, which is ICMP or ICMPv6 as the packet is.
        case icmpx(String)

        public static let codes = Symbols.icmpxCodes

        public static let names = ["reject"]

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
            switch (body["type"]?.text, body["expr"]?.text) {
            case ("tcp reset", nil): self = .tcpReset
            case ("icmpx", let code?) where Self.codes[code] != nil: self = .icmpx(code)
            default:
                throw UnsupportedRuleset(
                    json, "this rejection", allowed: ["tcp reset"] + Self.codes.keys.sorted().map { "icmpx \($0)" })
            }
        }

        public var json: JSON {
            switch self {
            case .tcpReset: ["reject": ["type": "tcp reset"]]
            case .icmpx(let code): ["reject": ["type": "icmpx", "expr": .text(code)]]
            }
        }
    }

    public static func reject(_ rejection: Rejection) -> Statement { Statement(rejection) }
}
