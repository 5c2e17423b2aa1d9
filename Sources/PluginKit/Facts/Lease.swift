extension Facts {
    /// What a DHCP server has lent an interface (RFC 2131, RFC 2132). An object's name is the
    /// interface's.
    public struct Lease: FactType {
        public static let collection = "leases"

        public var address: IPPrefix
        public var gateway: IPAddress?
        public var resolvers: [IPAddress]
        /// Of the option "classless static routes". With it, a client must ignore the option "router"
        /// (RFC 3442), so ``gateway`` is then the one of the default route among these, or none.
        public var routes: [Route]
        /// Bytes (option 26).
        public var mtu: Int?
        /// The domain of the network (option 15).
        public var domain: String?
        /// Domains to search (RFC 3397).
        public var search: [String]
        /// Time servers (option 42).
        public var timeServers: [IPAddress]
        /// All other options that the server sent, by their names in dhcpcd-definitions(5), as text.
        public var options: [String: String]

        /// A route that the server gave.
        public struct Route: Sendable, Hashable {
            public var to: IPPrefix
            /// The gateway; nil for a network on the link itself.
            public var via: IPAddress?

            public init(to: IPPrefix, via: IPAddress?) { (self.to, self.via) = (to, via) }
        }

        public init(
            address: IPPrefix, gateway: IPAddress?, resolvers: [IPAddress] = [], routes: [Route] = [], mtu: Int? = nil,
            domain: String? = nil, search: [String] = [], timeServers: [IPAddress] = [], options: [String: String] = [:]
        ) {
            self.address = address
            self.gateway = gateway
            self.resolvers = resolvers
            self.routes = routes
            self.mtu = mtu
            self.domain = domain
            self.search = search
            self.timeServers = timeServers
            self.options = options
        }

        public var json: JSON {
            func texts<Item: CustomStringConvertible>(_ items: [Item]) -> JSON? {
                items.isEmpty ? nil : .texts(items.map(\.description))
            }
            return .object([
                "address": .text(address.description), "gateway": gateway.map { .text($0.description) },
                "resolvers": texts(resolvers), "mtu": mtu.map { .integer($0) }, "domain": domain.map { .text($0) },
                "search": texts(search), "time-servers": texts(timeServers),
                "routes": routes.isEmpty
                    ? nil
                    : .list(
                        routes.map {
                            .object(["to": .text($0.to.description), "via": $0.via.map { .text($0.description) }])
                        }),
                "options": options.isEmpty ? nil : .object(options.mapValues { .text($0) }),
            ])
        }

        public static var shape: Shape<Lease> {
            .mapping("a lease") { fields in
                let route = Shape<Route>.mapping("a route") { fields in
                    let via = fields.optional("via", .ipAddress)
                    return fields.required("to", .network).map { Route(to: $0, via: via) }
                }
                guard let address = fields.required("address", .ipPrefix) else { return nil }
                return Lease(
                    address: address, gateway: fields.optional("gateway", .ipAddress),
                    resolvers: fields.optional("resolvers", .list(of: .ipAddress)) ?? [],
                    routes: fields.optional("routes", .list(of: route)) ?? [],
                    mtu: fields.optional("mtu", .integer(68...65_535)), domain: fields.optional("domain", .text),
                    search: fields.optional("search", .list(of: .text)) ?? [],
                    timeServers: fields.optional("time-servers", .list(of: .ipAddress)) ?? [],
                    options: Dictionary(
                        (fields.optional("options", .dictionary(.text, .text)) ?? []).map { ($0.key, $0.value) }
                    ) { $1 })
            }
        }
    }
}

extension Facts {
    /// The leases by interface.
    public var leases: [String: Lease] { values(Lease.self) }
}
