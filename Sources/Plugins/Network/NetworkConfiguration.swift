import PluginKit

/// `network:` of a site document.
public struct NetworkConfiguration: Sendable {
    /// How a port of the hardware is told from others.
    enum PortSelector: Hashable {
        /// The first, second, … in the order of the hardware.
        case order(Int)
        case driver(String)
        case path(String)
        case mac(MACAddress)

        init?(_ text: String) {
            let words = text.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard words.count == 2, !words[1].isEmpty else { return nil }
            switch words[0] {
            case "order":
                guard let number = Int(words[1]), (1...64).contains(number) else { return nil }
                self = .order(number)
            case "driver": self = .driver(words[1])
            case "path": self = .path(words[1])
            case "mac":
                guard let mac = MACAddress(words[1]) else { return nil }
                self = .mac(mac)
            default: return nil
            }
        }

        func matches(_ port: Facts.Port, at index: Int) -> Bool {
            switch self {
            case .order(let number): number == index + 1
            case .driver(let name): name == port.driver
            case .path(let path): path == port.path
            case .mac(let mac): mac == port.mac
            }
        }
    }

    struct Interface {
        var name: String
        var zone: Located<String>
        /// One for a port, several for a bridge.
        var ports: [Located<PortSelector>]
        var isBridge: Bool
        var mtu: Int?
        var addresses: [Located<IPPrefix>]
        var usesDHCP: Bool
        var acceptsRouterAdvertisements: Bool
    }

    struct StaticRoute {
        var destination: IPPrefix
        var gateway: IPAddress
        var metric: Int
    }

    var zones: [Located<String>]
    var interfaces: [Located<Interface>]
    var routes: [Located<StaticRoute>]
    var resolvers: [IPAddress]
}

extension NetworkConfiguration {
    static var shape: Shape<NetworkConfiguration> {
        .mapping("the network") { fields in
            let zones = fields.required("zones", .list(of: Shape.name.located)) ?? []
            let interfaces = fields.required("interfaces", .list(of: interface.located)) ?? []
            let routes = fields.optional("routes", .list(of: route.located)) ?? []
            let resolvers = fields.optional("resolvers", .list(of: .ipAddress)) ?? []
            fields.problems.checkUnique(zones, "zone") { $0 }
            fields.problems.checkUnique(interfaces, "interface") { $0.name }
            return NetworkConfiguration(zones: zones, interfaces: interfaces, routes: routes, resolvers: resolvers)
        }
    }

    private static var port: Shape<PortSelector> {
        .scalar(
            "a port by its order, driver, path or address: \"order 1\", \"driver igc\", \"path 0000:03:00.0\", "
                + "\"mac 02:00:00:00:00:01\""
        ) { PortSelector($0.text) }
    }

    private static var interface: Shape<Interface> {
        .mapping("an interface") { fields in
            let name = fields.required("name", .interfaceName)
            let zone = fields.required("zone", Shape.text.located)
            let port = fields.optional("port", port.located)
            let bridge = fields.optional("bridge-ports", .list(of: Self.port.located))
            let mtu = fields.optional("mtu", .integer(1280...9216))
            let ipv4 = fields.optional(
                "ipv4",
                Shape<(addresses: [Located<IPPrefix>], dhcp: Bool)>.mapping("IPv4") { fields in
                    (
                        fields.optional("addresses", .list(of: own(.ipv4).located)) ?? [],
                        fields.optional("dhcp", .boolean) ?? false
                    )
                })
            let ipv6 = fields.optional(
                "ipv6",
                Shape<(addresses: [Located<IPPrefix>], accepts: Bool)>.mapping("IPv6") { fields in
                    (
                        fields.optional("addresses", .list(of: own(.ipv6).located)) ?? [],
                        fields.optional("router-advertisements", .boolean) ?? false
                    )
                })
            if fields.has("port") == fields.has("bridge-ports") {
                fields.problems.add(
                    fields.node, fields.path,
                    fields.has("port") ? "port and bridge-ports together" : "neither port nor bridge-ports",
                    hint: "give exactly one of the two")
            }
            if let ipv4, ipv4.dhcp, !ipv4.addresses.isEmpty {
                fields.problems.add(
                    fields.node, fields.path + ".ipv4", "dhcp and addresses together", hint: "give one of the two")
            }
            guard let name, let zone else { return nil }
            return Interface(
                name: name, zone: zone, ports: bridge ?? port.map { [$0] } ?? [], isBridge: bridge != nil, mtu: mtu,
                addresses: (ipv4?.addresses ?? []) + (ipv6?.addresses ?? []), usesDHCP: ipv4?.dhcp ?? false,
                acceptsRouterAdvertisements: ipv6?.accepts ?? false)
        }
    }

    /// An address that an interface may have.
    private static func own(_ family: IPAddress.Family) -> Shape<IPPrefix> {
        Shape.ipPrefix.map(
            "an \(family == .ipv4 ? "IPv4" : "IPv6") address of the interface itself, with its network's length"
        ) { prefix in
            let address = prefix.address
            let isWhole = prefix.length >= 8 * family.length - 1
            let isNetwork = !isWhole && (prefix.isNetwork || family == .ipv4 && prefix.last == address)
            return prefix.family == family && !address.isMulticast && !address.isLoopback && !address.isUnspecified
                && prefix.length > 0 && !isNetwork ? prefix : nil
        }
    }

    private static var route: Shape<StaticRoute> {
        .mapping("a route") { fields in
            let destination = fields.required("to", .network)
            let gateway = fields.required("via", .ipAddress)
            let metric = fields.optional("metric", .integer(1...9999)) ?? 20
            guard let destination, let gateway else { return nil }
            if destination.family != gateway.family {
                fields.problems.add(
                    fields.node, fields.path, "\(destination) via \(gateway): IPv4 and IPv6 in one route")
            }
            return StaticRoute(destination: destination, gateway: gateway, metric: metric)
        }
    }
}
