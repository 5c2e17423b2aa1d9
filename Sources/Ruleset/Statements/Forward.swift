import Documents

extension Statement {
    /// `fwd`: sends the packet out of a link at once. In tables of the family `netdev` alone.
    public struct Forward: StatementType {
        public var link: String
        /// A neighbour on the link, for whose hardware address the kernel asks.
        public var neighbour: Neighbour?

        public struct Neighbour: Sendable, Hashable {
            public var family: Family
            public var address: String

            public init(_ family: Family, _ address: String) { (self.family, self.address) = (family, address) }
        }

        public init(to link: String, neighbour: Neighbour? = nil) { (self.link, self.neighbour) = (link, neighbour) }

        public static let names = ["fwd"]

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
            guard let link = body["dev"]?.text else {
                throw UnsupportedRuleset(json, "fwd without a link", allowed: ["dev", "dev, family and addr"])
            }
            switch (body["family"]?.text.flatMap(Family.init), body["addr"]?.text) {
            case (let family?, let address?): self.init(to: link, neighbour: Neighbour(family, address))
            case (nil, nil) where body["family"] == nil && body["addr"] == nil: self.init(to: link)
            default:
                throw UnsupportedRuleset(
                    json, "this neighbour of fwd", allowed: ["family ip or ip6 together with addr"])
            }
        }

        public var json: JSON {
            [
                "fwd": .object([
                    "dev": .text(link), "family": neighbour.map { .text($0.family.rawValue) },
                    "addr": neighbour.map { .text($0.address) },
                ])
            ]
        }
    }

    public static func forward(to link: String, neighbour: Forward.Neighbour? = nil) -> Statement {
        Statement(Forward(to: link, neighbour: neighbour))
    }
}
