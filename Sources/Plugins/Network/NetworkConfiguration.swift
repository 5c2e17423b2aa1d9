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
        /// Nil for one that carries others alone.
        var zone: Located<String>?
        var link: Link
        var mtu: Located<Int>?
        var addresses: [Located<IPPrefix>]
        var usesDHCP: Bool
        var acceptsRouterAdvertisements: Bool
        /// The number of its network within the box's own prefix; nil for none.
        var uniqueLocal: Located<Int>?

        /// The hardware's ports that it is made of.
        var ports: [Located<PortSelector>] {
            switch link {
            case .port(let port): [port]
            case .bridge(let ports), .bond(_, let ports): ports
            case .vlan, .dummy: []
            }
        }

        /// The links that frames come by first: itself, or the ports of a bridge.
        var inputs: [String] {
            if case .bridge(let ports) = link { ports.indices.map(portName) } else { [name] }
        }

        /// The kernel's name of one of its ports.
        func portName(_ number: Int) -> String {
            if case .port = link { name } else { "\(name)-\(number + 1)" }
        }
    }

    /// What an interface is.
    enum Link {
        case port(Located<PortSelector>)
        case bridge([Located<PortSelector>])
        case bond(BondLink, ports: [Located<PortSelector>])
        case vlan(VLAN)
        /// A link without a cable.
        case dummy
    }

    /// Frames of another interface that have a tag.
    struct VLAN {
        var parent: Located<String>
        var id: Int
        var tag: VLANLink.Tag
        /// Of all that is sent (PCP).
        var priority: Int
    }

    struct StaticRoute {
        var destination: IPPrefix
        var gateway: IPAddress
        /// Required with a link-local gateway, which every link could reach.
        var interface: Located<String>?
        var metric: Int
        var table: Int
    }

    /// Which table of routes packets are looked up in.
    struct PolicyRoute {
        var priority: Int
        var family: IPAddress.Family
        var source: IPPrefix?
        var destination: IPPrefix?
        var interface: Located<String>?
        var table: Int
    }

    struct Probe {
        var name: String
        var check: ProbeResource.Check
        var interval: Int
        var timeout: Int
        var threshold: Int
    }

    var zones: [Located<String>]
    var interfaces: [Located<Interface>]
    var routes: [Located<StaticRoute>]
    var resolvers: [IPAddress]
    var policyRoutes: [Located<PolicyRoute>]
    var probes: [Located<Probe>]
    var drift: SettingResource.Drift
}

extension NetworkConfiguration {
    static var shape: Shape<NetworkConfiguration> {
        .mapping("the network") { fields in
            let zones = fields.required("zones", .list(of: Shape.zoneName.located)) ?? []
            let interfaces = fields.required("interfaces", .list(of: interface.located)) ?? []
            let routes = fields.optional("routes", .list(of: route.located)) ?? []
            let resolvers = fields.optional("resolvers", .list(of: .ipAddress)) ?? []
            let policyRoutes = fields.optional("policy-routes", .list(of: policyRoute.located)) ?? []
            let probes = fields.optional("probes", .list(of: probe.located)) ?? []
            let drift = fields.optional(
                "drift",
                Shape.oneOf(SettingResource.Drift.allCases.map(\.rawValue)).map { SettingResource.Drift(rawValue: $0) })
            fields.problems.checkUnique(probes, "probe") { $0.name }
            fields.problems.checkUnique(policyRoutes, "policy route") { "\($0.family) \($0.priority)" }
            fields.problems.checkUnique(zones, "zone") { $0 }
            fields.problems.checkUnique(interfaces, "interface") { $0.name }
            checkVLANs(interfaces, fields.problems)
            fields.problems.checkUnique(
                interfaces.compactMap(\.value.uniqueLocal), "network of the box's own prefix",
                hint: "give each interface another number"
            ) { "\($0)" }
            return NetworkConfiguration(
                zones: zones, interfaces: interfaces, routes: routes, resolvers: resolvers, policyRoutes: policyRoutes,
                probes: probes, drift: drift ?? .repair)
        }
    }

    static var port: Shape<PortSelector> {
        .scalar(
            "a port by its order, driver, path or address: \"order 1\", \"driver igc\", \"path 0000:03:00.0\", "
                + "\"mac 02:00:00:00:00:01\""
        ) { PortSelector($0.text) }
    }

    private static var interface: Shape<Interface> {
        .mapping("an interface") { fields in
            let name = fields.required("name", .interfaceName)
            let zone = fields.optional("zone", Shape.text.located)
            let link = Self.link(&fields)
            let mtu = fields.optional("mtu", Shape.integer(1280...9216).located)
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
                Shape<(addresses: [Located<IPPrefix>], accepts: Bool, uniqueLocal: Located<Int>?)>.mapping("IPv6") {
                    fields in
                    (
                        fields.optional("addresses", .list(of: own(.ipv6).located)) ?? [],
                        fields.optional("router-advertisements", .boolean) ?? false,
                        fields.optional("unique-local", Shape.integer(0...65535).located)
                    )
                })
            let has4 = ipv4.map { $0.dhcp || !$0.addresses.isEmpty } ?? false
            let has6 = ipv6.map { $0.accepts || $0.uniqueLocal != nil || !$0.addresses.isEmpty } ?? false
            if !fields.has("zone"), has4 || has6 {
                fields.problems.add(
                    fields.node, fields.path, "addresses without a zone",
                    hint: "add zone: NAME; an interface without one carries other interfaces alone")
            }
            if let ipv4, ipv4.dhcp, !ipv4.addresses.isEmpty {
                fields.problems.add(
                    fields.node, fields.path + ".ipv4", "dhcp and addresses together", hint: "give one of the two")
            }
            guard let name else { return nil }
            return Interface(
                name: name, zone: zone, link: link, mtu: mtu,
                addresses: (ipv4?.addresses ?? []) + (ipv6?.addresses ?? []), usesDHCP: ipv4?.dhcp ?? false,
                acceptsRouterAdvertisements: ipv6?.accepts ?? false, uniqueLocal: ipv6?.uniqueLocal)
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
            let interface = fields.optional("interface", Shape.text.located)
            let metric = fields.optional("metric", .integer(1...9999)) ?? 20
            let table = fields.optional("table", tableNumber) ?? RouteResource.mainTable.number
            guard let destination, let gateway else { return nil }
            if destination.family != gateway.family {
                fields.problems.add(
                    fields.node, fields.path, "\(destination) via \(gateway): IPv4 and IPv6 in one route")
            }
            if gateway.isLinkLocal, interface == nil {
                fields.problems.add(
                    fields.node, fields.path, "the gateway \(gateway) is link-local, and the route has no interface",
                    hint: "add interface: NAME, the interface that the gateway is on")
            }
            return StaticRoute(
                destination: destination, gateway: gateway, interface: interface, metric: metric, table: table)
        }
    }

    /// Those below and above are the kernel's own, or other plugins'.
    /// Routing tables and priorities of policy rules that the document names by their numbers.
    static let (tableNumbers, priorityNumbers) = (1...199, 1000...9999)

    private static var tableNumber: Shape<Int> { .integer(tableNumbers) }

    private static var policyRoute: Shape<PolicyRoute> {
        .mapping("a policy route") { fields in
            let priority = fields.required("priority", .integer(priorityNumbers))
            let source = fields.optional("from", .network)
            let destination = fields.optional("to", .network)
            let interface = fields.optional("interface", Shape.text.located)
            let table = fields.required("table", tableNumber)
            let families = Set([source, destination].compactMap { $0?.family })
            if families.count != 1 {
                fields.problems.add(
                    fields.node, fields.path,
                    families.isEmpty ? "neither from nor to" : "from and to are of two families",
                    hint: "give networks of IPv4, or of IPv6")
            }
            guard let priority, let table, let family = families.first else { return nil }
            return PolicyRoute(
                priority: priority, family: family, source: source, destination: destination, interface: interface,
                table: table)
        }
    }

    private static var probe: Shape<Probe> {
        .mapping("a probe") { fields in
            let name = fields.required("name", .name)
            let ping = fields.optional("ping", .ipAddress)
            let tcp = fields.optional(
                "tcp",
                Shape<ProbeResource.Check>.mapping("an address and a port") { fields in
                    let address = fields.required("address", .ipAddress)
                    let port = fields.required("port", .integer(1...65535))
                    guard let address, let port else { return nil }
                    return .tcp(address, port: port)
                })
            let dns = fields.optional(
                "dns",
                Shape<ProbeResource.Check>.mapping("a name server and a name") { fields in
                    let server = fields.required("server", .ipAddress)
                    let name = fields.required(
                        "name", .text("a name to look up") { (1...253).contains($0.utf8.count) && !$0.contains(" ") })
                    guard let server, let name else { return nil }
                    return .dns(server: server, name: name)
                })
            let interval = fields.optional("interval", .integer(1...3600)) ?? 5
            let timeout = fields.optional("timeout", .integer(1...60)) ?? 2
            let threshold = fields.optional("threshold", .integer(1...100)) ?? 3
            if ["ping", "tcp", "dns"].filter({ fields.has($0) }).count != 1 {
                fields.problems.add(
                    fields.node, fields.path, "it says not what to try", hint: "give one of ping, tcp and dns")
            }
            guard let name, let check = ping.map(ProbeResource.Check.ping) ?? tcp ?? dns else { return nil }
            return Probe(name: name, check: check, interval: interval, timeout: timeout, threshold: threshold)
        }
    }
}
