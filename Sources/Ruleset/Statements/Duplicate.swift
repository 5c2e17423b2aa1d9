import Documents

extension Statement {
    /// `dup`: sends a copy elsewhere. Tables of the families `ip` and `ip6` copy to a gateway, those of `netdev` to a link;
    /// the kernel has none in `inet`.
    public struct Duplicate: StatementType {
        public enum Target: Sendable, Hashable {
            /// An address that the copy is routed to, and the link that it leaves by.
            case gateway(String, link: String?)
            case link(String)
        }

        public var target: Target

        public init(to target: Target) { self.target = target }

        public static let names = ["dup"]

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
            guard let first = body["addr"]?.text, body["dev"] == nil || body["dev"]?.text != nil else {
                throw UnsupportedRuleset(json, "this dup", allowed: ["addr, and dev with an address"])
            }
            // In a table of the family netdev nft calls the link an address.
            guard !first.isAddress else {
                self.init(to: .gateway(first, link: body["dev"]?.text))
                return
            }
            guard body["dev"] == nil else {
                throw UnsupportedRuleset(json, "dup to a link as addr and to another as dev")
            }
            self.init(to: .link(first))
        }

        public var json: JSON {
            switch target {
            case .gateway(let address, let link):
                ["dup": .object(["addr": .text(address), "dev": link.map { .text($0) }])]
            case .link(let link): ["dup": ["addr": .text(link)]]
            }
        }
    }

    public static func duplicate(to target: Duplicate.Target) -> Statement { Statement(Duplicate(to: target)) }
}

extension String {
    /// An IPv4 or IPv6 address, and no link's name.
    fileprivate var isAddress: Bool {
        contains(":")
            || utf8.contains(UInt8(ascii: ".")) && utf8.allSatisfy { (0x30...0x39).contains($0) || $0 == 0x2E }
    }
}
