/// What the engine has found out about the box.
public struct Facts: Sendable, Hashable {
    /// A network port of the hardware. What the kernel calls it is no fact: a plan gives it another name.
    public struct Port: Sendable, Hashable {
        /// Its driver's name, such as `igc`.
        public var driver: String
        /// Where it is plugged in, as its bus has it: `0000:03:00.0`; empty when nobody knows.
        public var path: String
        public var mac: MACAddress

        public init(driver: String, path: String, mac: MACAddress) {
            self.driver = driver
            self.path = path
            self.mac = mac
        }
    }

    /// What a DHCP server has lent an interface.
    public struct Lease: Sendable, Hashable {
        public var address: IPPrefix
        public var gateway: IPAddress?
        public var resolvers: [IPAddress]

        public init(address: IPPrefix, gateway: IPAddress?, resolvers: [IPAddress]) {
            self.address = address
            self.gateway = gateway
            self.resolvers = resolvers
        }
    }

    /// In the order in which the hardware counts them: by path; where that is the same or not known, by address.
    public var ports: [Port]
    /// By interface.
    public var leases: [String: Lease]
    /// The terminals that the kernel writes to, such as `ttyS0`.
    public var consoles: [String]

    public init(ports: [Port] = [], leases: [String: Lease] = [:], consoles: [String] = []) {
        self.consoles = consoles
        self.ports = ports.sorted {
            ($0.path, $0.mac.description) < ($1.path, $1.mac.description)
        }
        self.leases = leases
    }

    public var json: JSON {
        [
            "ports": .list(
                ports.map { port in
                    [
                        "driver": .text(port.driver), "path": .text(port.path), "mac": .text(port.mac.description),
                    ]
                }),
            "leases": .object(
                leases.mapValues { lease in
                    .object([
                        "address": .text(lease.address.description),
                        "gateway": lease.gateway.map { .text($0.description) },
                        "resolvers": .texts(lease.resolvers.map(\.description)),
                    ])
                }),
            "consoles": .texts(consoles),
        ]
    }

    public static var shape: Shape<Facts> {
        .mapping("facts") { fields in
            let port = Shape<Port>.mapping("a port") { fields in
                let driver = fields.required("driver", .text)
                let path = fields.required("path", .text)
                let mac = fields.required("mac", .macAddress)
                guard let driver, let path, let mac else { return nil }
                return Port(driver: driver, path: path, mac: mac)
            }
            let lease = Shape<Lease>.mapping("a lease") { fields in
                let address = fields.required("address", .ipPrefix)
                let gateway = fields.optional("gateway", .ipAddress)
                let resolvers = fields.optional("resolvers", .list(of: .ipAddress)) ?? []
                return address.map { Lease(address: $0, gateway: gateway, resolvers: resolvers) }
            }
            let leases = fields.optional("leases", .dictionary(.text, lease)) ?? []
            return Facts(
                ports: fields.optional("ports", .list(of: port)) ?? [],
                leases: Dictionary(leases.map { ($0.key, $0.value) }) { $1 },
                consoles: fields.optional("consoles", .list(of: .text)) ?? [])
        }
    }
}
