import Documents

extension Statement {
    /// Writes a value: a mark, a priority, a zone, or a field of the packet.
    public struct Mangle: StatementType {
        /// One of those that ``isWritable(_:)`` has.
        public var target: Selector
        public var value: Expression

        public init(_ target: Selector, _ value: Expression) { (self.target, self.value) = (target, value) }

        /// What can be written.
        public static func isWritable(_ target: Selector) -> Bool {
            switch target {
            case .meta(.mark), .markField, .meta(.priority), .ct(.mark), .zone, .payload(.ip, "dscp"),
                .payload(.ip6, "dscp"),
                .tcpOption(.maximumSegmentSize, .value):
                true
            default: false
            }
        }

        private static let writable = [
            "meta mark", "meta priority", "ct mark", "ct zone", "ip dscp", "ip6 dscp", "tcp option maxseg size",
        ]

        public static let names = ["mangle"]

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
            guard let key = body["key"], let value = body["value"] else {
                throw UnsupportedRuleset(json, "mangle without key or value")
            }
            // What can't even be read is refused as what can't be written.
            guard let selector = try? Selector(key), Self.isWritable(selector) else {
                throw UnsupportedRuleset(json, "writing \(key.line)", allowed: Self.writable)
            }
            self.init(selector, try Expression(value))
        }

        public var json: JSON { ["mangle": ["key": target.json, "value": value.json]] }
    }

    public static func mangle(_ target: Selector, _ value: Expression) -> Statement {
        Statement(Mangle(target, value))
    }

    /// Writes a field of the packet's mark. The engine masks it, and has the connection keep it where the
    /// manifest says so.
    public static func set(markField name: String, _ value: Int) -> Statement {
        mangle(.markField(.packet, name), .number(value))
    }

    /// Writes a mark of the packet or of the connection.
    public static func setMark(_ selector: Selector, _ value: Expression) -> Statement { mangle(selector, value) }
}
