import Documents

extension Statement {
    /// `tproxy`: gives the packet to a local socket without changing it; without such a socket the rule ends here.
    ///
    /// The packet must be routed to the box too: by its mark, to a table with a local route.
    public struct TransparentProxy: StatementType {
        /// Of the address; nil for both families, to a port alone.
        public var family: Family?
        public var address: String?
        public var port: Int?

        public init(_ family: Family? = nil, address: String? = nil, port: Int? = nil) {
            (self.family, self.address, self.port) = (family, address, port)
        }

        public static let names = ["tproxy"]

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
            self.init(
                try body["family"].map { (found) throws(UnsupportedRuleset) in
                    guard let family = found.text.flatMap(Family.init) else {
                        throw UnsupportedRuleset(
                            json, "this family of tproxy", allowed: Family.allCases.map(\.rawValue))
                    }
                    return family
                }, address: body["addr"]?.text, port: body["port"]?.integer)
            guard address != nil || port != nil else {
                throw UnsupportedRuleset(json, "tproxy to nothing", allowed: ["addr", "port", "both"])
            }
            guard body["addr"]?.text == address, body["addr"] == nil || address != nil, address == nil || family != nil
            else {
                throw UnsupportedRuleset(json, "this address of tproxy", allowed: ["an address with its family"])
            }
            guard body["port"] == nil || port.map({ (1...65535).contains($0) }) == true else {
                throw UnsupportedRuleset(json, "this port of tproxy", allowed: ["1 to 65535"])
            }
        }

        public var json: JSON {
            [
                "tproxy": .object([
                    "family": family.map { .text($0.rawValue) }, "addr": address.map { .text($0) },
                    "port": port.map { .integer($0) },
                ])
            ]
        }
    }

    public static func tproxy(
        _ family: Family? = nil, address: String? = nil, port: Int? = nil
    ) -> Statement {
        Statement(TransparentProxy(family, address: address, port: port))
    }
}
