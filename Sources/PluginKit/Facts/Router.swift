extension Facts {
    /// A router that advertises itself on a link (RFC 4861, section 4.2). An object's name is the
    /// interface and the router's address, such as `wan fe80::1`.
    public struct Router: FactType {
        public static let collection = "routers"

        public var interface: String
        /// Link-local.
        public var address: IPAddress
        /// Whether it is a default router: its lifetime is not zero.
        public var isDefault: Bool
        /// Prefixes of the link from which the box may make itself addresses.
        public var prefixes: [IPPrefix]
        /// Bytes.
        public var mtu: Int?
        /// Name servers (RFC 8106).
        public var resolvers: [IPAddress]

        public init(
            interface: String, address: IPAddress, isDefault: Bool, prefixes: [IPPrefix] = [], mtu: Int? = nil,
            resolvers: [IPAddress] = []
        ) {
            self.interface = interface
            self.address = address
            self.isDefault = isDefault
            self.prefixes = prefixes
            self.mtu = mtu
            self.resolvers = resolvers
        }

        public var json: JSON {
            .object([
                "interface": .text(interface), "address": .text(address.description), "default": .boolean(isDefault),
                "prefixes": prefixes.isEmpty ? nil : .texts(prefixes.map(\.description)),
                "mtu": mtu.map { .integer($0) },
                "resolvers": resolvers.isEmpty ? nil : .texts(resolvers.map(\.description)),
            ])
        }

        public static var shape: Shape<Router> {
            .mapping("a router") { fields in
                let interface = fields.required("interface", .text)
                let address = fields.required("address", .ipAddress)
                let isDefault = fields.required("default", .boolean)
                let prefixes = fields.optional("prefixes", .list(of: .network)) ?? []
                let mtu = fields.optional("mtu", .integer(1280...65_535))
                let resolvers = fields.optional("resolvers", .list(of: .ipAddress)) ?? []
                guard let interface, let address, let isDefault else { return nil }
                return Router(
                    interface: interface, address: address, isDefault: isDefault, prefixes: prefixes, mtu: mtu,
                    resolvers: resolvers)
            }
        }
    }
}

extension Facts {
    /// The routers by their names.
    public var routers: [String: Router] { values(Router.self) }
}
