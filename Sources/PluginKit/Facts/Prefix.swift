extension Facts {
    /// A prefix or an address that a DHCPv6 server has given (RFC 8415). An object's name is the
    /// interface and the prefix, such as `wan 2001:db8:1::/56`.
    public struct Prefix: FactType {
        public static let collection = "prefixes"

        /// The interface that asked.
        public var interface: String
        /// A delegated prefix, or an address with the length 128.
        public var prefix: IPPrefix
        /// Whether it is for networks behind the box (IA_PD), not an address of the box itself (IA_NA).
        public var isDelegated: Bool
        /// Name servers of the same answer (RFC 3646).
        public var resolvers: [IPAddress]

        public init(interface: String, prefix: IPPrefix, isDelegated: Bool, resolvers: [IPAddress] = []) {
            self.interface = interface
            self.prefix = prefix
            self.isDelegated = isDelegated
            self.resolvers = resolvers
        }

        public var json: JSON {
            .object([
                "interface": .text(interface), "prefix": .text(prefix.description), "delegated": .boolean(isDelegated),
                "resolvers": resolvers.isEmpty ? nil : .texts(resolvers.map(\.description)),
            ])
        }

        public static var shape: Shape<Prefix> {
            .mapping("a prefix") { fields in
                let interface = fields.required("interface", .text)
                let prefix = fields.required("prefix", .ipPrefix)
                let isDelegated = fields.required("delegated", .boolean)
                let resolvers = fields.optional("resolvers", .list(of: .ipAddress)) ?? []
                guard let interface, let prefix, let isDelegated else { return nil }
                return Prefix(interface: interface, prefix: prefix, isDelegated: isDelegated, resolvers: resolvers)
            }
        }
    }
}

extension Facts {
    /// The prefixes by their names.
    public var prefixes: [String: Prefix] { values(Prefix.self) }
}
