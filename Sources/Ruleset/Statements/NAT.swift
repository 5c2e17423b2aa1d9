import Documents

extension Statement {
    public enum NATKind: String, Sendable, CaseIterable { case snat, dnat }

    public enum NATFlag: String, Sendable, CaseIterable {
        /// One source has the same address of a pool for all that it talks to.
        case persistent
        /// What is beyond the prefix stays.
        case netmap
    }

    /// A range of addresses is a pool; a prefix with the flag `netmap` maps networks of one length to each other.
    public struct NAT: StatementType {
        public var kind: NATKind
        public var family: Family
        public var address: Expression?
        public var port: Expression?
        public var flags: Set<NATFlag>

        public init(
            _ kind: NATKind, _ family: Family, address: Expression?, port: Expression?, flags: Set<NATFlag> = []
        ) {
            (self.kind, self.family, self.address, self.port) = (kind, family, address, port)
            self.flags = flags
        }

        public static let names = NATKind.allCases.map(\.rawValue)

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
            guard let family = (body["family"]?.text).flatMap(Family.init) else {
                throw UnsupportedRuleset(json, "\(name) without family ip or ip6")
            }
            let flags: Set<NATFlag> = try body.flags("flags", name)
            guard body["type_flags"] == nil || body["type_flags"]?.text == "prefix" && flags.contains(.netmap) else {
                throw UnsupportedRuleset(json, "\(name) with type_flags but prefix")
            }
            var address: Expression?
            var port: Expression?
            if let value = body["addr"] { address = try Expression(value) }
            if let value = body["port"] { port = try Expression(value) }
            self.init(name == "snat" ? .snat : .dnat, family, address: address, port: port, flags: flags)
        }

        public var json: JSON {
            [
                kind.rawValue: .object([
                    "family": .text(family.rawValue), "addr": address?.json, "port": port?.json,
                    "flags": .flags(flags), "type_flags": flags.contains(.netmap) ? "prefix" : nil,
                ])
            ]
        }
    }

    public static func nat(
        _ kind: NATKind, _ family: Family, address: Expression?, port: Expression?, flags: Set<NATFlag> = []
    ) -> Statement {
        Statement(NAT(kind, family, address: address, port: port, flags: flags))
    }
}
