import PluginKit

/// Interfaces by role, zones, addresses, routes, the DHCP client, resolvers.
public enum Network: Plugin {
    public static let manifest = PluginManifest(
        name: "network", version: "0.1.0",
        summary: "Interfaces by role, zones, addresses, routes, DHCP client, resolvers",
        key: "network", yang: "vcpe-network.yang", publishes: ["zones", "interfaces", "resolvers"],
        reads: ["zones", "interfaces", "resolvers"], facts: ["ports", "leases", "unique-local"],
        reports: ["leases": ["network-dhcp-*"]],
        permissions: Permissions(
            services: [
                "network-dhcp-*": .init(
                    ["/usr/sbin/dhcpcd"], users: ["root"],
                    capabilities: [
                        "chown", "dac_override", "kill", "net_admin", "net_bind_service", "net_raw", "setgid", "setuid",
                        "sys_chroot",
                    ], systemCalls: [.users, .chroot], families: [.netlink, .packet],
                    writable: ["/run/dhcpcd", "/var/lib/dhcpcd"])
            ],
            sysctls: [
                "net/ipv4/conf/*/arp_announce", "net/ipv4/conf/*/arp_ignore", "net/ipv4/conf/*/promote_secondaries",
                "net/ipv4/ip_forward", "net/ipv6/conf/*/accept_ra", "net/ipv6/conf/*/accept_ra_rtr_pref",
                "net/ipv6/conf/*/autoconf", "net/ipv6/conf/all/forwarding",
            ], stages: [.shape: false]),
        state: [
            .init("state.links", of: "links"), .init("state.ports", of: "ports"), .init("state.leases", of: "leases"),
            .init("state.prefixes", of: "prefixes"), .init("state.routers", of: "routers"),
            .init("state.routes", of: "routes"), .init("state.probes", of: "probes"),
        ],
        // A customer's probe would decide on the provider's commits.
        locks: ["drift", "probes"],
        resources: [
            "link", "address", "route", "rule", "sysctl", "nftables", "file", "directory", "service", "kernel-module",
            "probe", "setting",
        ],
        // Numbers of the site document.
        allocates: AllocationRequest(
            tables: ["site": .fixed(NetworkConfiguration.tableNumbers), own: .count(1)],
            priorities: ["site": .fixed(NetworkConfiguration.priorityNumbers), own: .count(mostOwn)]),
        features: [
            .init("base", modules: ["bridge"]),
            .init("vlan", modules: ["8021q"]),
            .init("bond", modules: ["bonding"]),
            .init("dummy", modules: ["dummy"]),
            .init("dhcp-client", packages: ["dhcpcd-base"], users: ["dhcpcd": "/usr/lib/dhcpcd"]),
        ],
        commands: [
            .init(.show, "leases", "What DHCP servers have lent the box"),
            .init(.show, "prefix", "The prefix that is the box's own, and its networks"),
            .init(
                .act, "renew", "Ask the DHCP server of an interface anew",
                arguments: [.init("interface", "One with dhcp: true", values: "interfaces")]),
        ])

    /// The table, and the rules' priority, of the box's own networks.
    static let own = "own-networks"
    /// Networks that rules are allocated for.
    static let mostOwn = 64

    public static var configuration: Shape<NetworkConfiguration> { NetworkConfiguration.shape }

    /// The set of a zone's interfaces.
    static func set(of zone: String) -> String { "network.zone-\(zone)" }

    public static func publish(_ site: NetworkConfiguration, facts: Facts, into output: inout PublishOutput) {
        let configuration = site.with(uniqueLocal: facts.uniqueLocal)
        for zone in configuration.zones { output.add(Zone(name: zone.value, set: set(of: zone.value))) }
        for interface in configuration.interfaces.map(\.value) {
            guard let zone = interface.zone else { continue }
            let lease = lease(of: interface, configuration, facts)
            let addresses = interface.addresses.map(\.value) + (lease.map { [$0.address] } ?? [])
            output.add(
                Interface(
                    name: interface.name, zone: zone.value, addresses: addresses, ports: interface.inputs))
            if let lease, !lease.resolvers.isEmpty { output.add(resolvers: lease.resolvers, from: interface.name) }
        }
        // What the operator names comes first, by name.
        if !configuration.resolvers.isEmpty { output.add(resolvers: configuration.resolvers, from: "-network") }
    }

    public static func plan(_ site: NetworkConfiguration, input: PlanInput, into output: inout PlanOutput) {
        let configuration = site.with(uniqueLocal: input.facts.uniqueLocal)
        planUniqueLocal(configuration, input.facts, &output)
        checkOverlaps(configuration, &output)
        planZones(configuration, input, &output)
        let present = planLinks(configuration, input.facts, &output)
        output.add(SysctlResource(key: "net/ipv4/ip_forward", value: "1"))
        output.add(SysctlResource(key: "net/ipv6/conf/all/forwarding", value: "1"))
        // The end of one address must not be the end of all others of its network.
        output.add(SysctlResource(key: "net/ipv4/conf/all/promote_secondaries", value: "1"))
        // A router answers for an address on the link that has it alone, and asks with an address
        // of that link: the WAN must not learn the LAN's addresses. Proxy ARP is not concerned.
        output.add(SysctlResource(key: "net/ipv4/conf/all/arp_ignore", value: "1"))
        output.add(SysctlResource(key: "net/ipv4/conf/all/arp_announce", value: "2"))
        for interface in configuration.interfaces.map(\.value) where present.contains(interface.name) {
            planInterface(interface, configuration, input.facts, &output)
        }
        let own = planOwnNetworks(configuration, present, &output)
        for route in configuration.routes {
            let link = route.value.interface
            if let link, output.interface(link.value, at: link.path, in: input.published) == nil { continue }
            let isOnLink = link != nil && route.value.gateway.isLinkLocal
            let isReachable =
                isOnLink
                || configuration.interfaces.contains { interface in
                    if let link, interface.value.name != link.value { return false }
                    return interface.value.addresses.contains { $0.value.contains(route.value.gateway) }
                        || lease(of: interface.value, configuration, input.facts)?.address.contains(route.value.gateway)
                            == true
                }
            // Within a lease that isn't there yet it may come.
            let mayCome = configuration.interfaces.contains {
                $0.value.usesDHCP || $0.value.acceptsRouterAdvertisements
            }
            guard isReachable else {
                output.say(
                    mayCome ? .absent : .error, path: route.path + ".via",
                    "the gateway \(route.value.gateway) is in no network of an interface")
                continue
            }
            output.add(
                RouteResource(
                    to: route.value.destination, via: route.value.gateway, link: link?.value,
                    metric: route.value.metric, table: AllocatedNumber(route.value.table)), at: route.path)
            let to = route.value.destination
            // A part of an own network that is elsewhere: the table of those comes before the main
            // one.
            if AllocatedNumber(route.value.table) == RouteResource.mainTable,
                own.contains(where: { $0.length < to.length && $0.contains(to.address) })
            {
                output.add(
                    RouteResource(
                        to: to, via: route.value.gateway, link: link?.value, metric: route.value.metric,
                        table: AllocatedNumber(Self.own)), at: route.path)
            }
        }
        for rule in configuration.policyRoutes {
            if let interface = rule.value.interface {
                guard output.interface(interface.value, at: interface.path, in: input.published) != nil else {
                    continue
                }
            }
            let value = rule.value
            output.add(
                RuleResource(
                    value.family, priority: AllocatedNumber(value.priority), table: AllocatedNumber(value.table),
                    source: value.source,
                    destination: value.destination, interface: value.interface?.value), at: rule.path)
        }
        planSegmentSizes(configuration, present, &output)
        planResolvers(input, &output)
        planProbes(configuration, input.facts, &output)
        if configuration.drift != .repair { output.add(SettingResource.drift(configuration.drift), at: "drift") }
    }

    /// Gateways of default routes, and what the operator names.
    private static func planProbes(
        _ configuration: NetworkConfiguration, _ facts: Facts, _ output: inout PlanOutput
    ) {
        func probe(_ name: String, _ check: ProbeResource.Check, at path: String) {
            output.add(ProbeResource("network.\(name)", check), at: path)
        }
        for interface in configuration.interfaces {
            if let gateway = lease(of: interface.value, configuration, facts)?.gateway {
                probe("gateway-\(interface.value.name)", .ping(gateway), at: interface.path)
            }
        }
        for route in configuration.routes where route.value.destination.length == 0 && !route.value.gateway.isLinkLocal
        {
            probe("gateway-\(route.value.gateway)", .ping(route.value.gateway), at: route.path)
        }
        for wanted in configuration.probes {
            let value = wanted.value
            output.add(
                ProbeResource(
                    "network.\(value.name)", value.check, interval: value.interval, timeout: value.timeout,
                    threshold: value.threshold), at: wanted.path)
        }
    }

    private static func checkOverlaps(_ configuration: NetworkConfiguration, _ output: inout PlanOutput) {
        var seen: [(interface: String, address: Located<IPPrefix>)] = []
        for interface in configuration.interfaces.map(\.value) {
            for address in interface.addresses where !address.value.address.isLinkLocal {
                if let other = seen.first(where: {
                    $0.interface != interface.name && $0.address.value.overlaps(address.value)
                }) {
                    output.say(
                        .error, path: address.path,
                        "\(address.value) of \(interface.name) overlaps \(other.address.value) of \(other.interface) "
                            + "(\(other.address.path))", hint: "give every interface a network of its own")
                }
                seen.append((interface.name, address))
            }
        }
    }

    private static func planZones(_ configuration: NetworkConfiguration, _ input: PlanInput, _ output: inout PlanOutput)
    {
        for interface in configuration.interfaces {
            guard let zone = interface.value.zone else { continue }
            _ = output.zone(zone.value, at: zone.path, in: input.published)
        }
        for zone in configuration.zones {
            let members = configuration.interfaces.filter { $0.value.zone?.value == zone.value }.map(\.value.name)
            output.add(
                .set(
                    NamedSet(
                        set(of: zone.value), key: [.interfaceName],
                        elements: members.sorted().map { SetElement(.text($0)) })))
        }
    }

    // MARK: - Addresses

    /// What an interface was lent, unless the site itself has that network: it goes before whatever a provider gives out.
    private static func lease(
        of interface: NetworkConfiguration.Interface, _ configuration: NetworkConfiguration, _ facts: Facts
    ) -> Facts.Lease? {
        guard interface.usesDHCP, let lease = facts.leases[interface.name] else { return nil }
        return overlap(lease, interface, configuration) == nil ? lease : nil
    }

    private static func overlap(
        _ lease: Facts.Lease, _ interface: NetworkConfiguration.Interface, _ configuration: NetworkConfiguration
    ) -> Located<IPPrefix>? {
        configuration.interfaces.filter { $0.value.name != interface.name }.flatMap(\.value.addresses).first {
            address in
            address.value.overlaps(lease.address) || lease.gateway.map { address.value.contains($0) } == true
        }
    }

    private static func planInterface(
        _ interface: NetworkConfiguration.Interface, _ configuration: NetworkConfiguration, _ facts: Facts,
        _ output: inout PlanOutput
    ) {
        let name = interface.name
        for address in interface.addresses { output.add(AddressResource(link: name, address.value), at: address.path) }
        // 2: also on a box that forwards. The kernel's own routes from advertisements are its own.
        output.add(
            SysctlResource(
                key: "net/ipv6/conf/\(name)/accept_ra", value: interface.acceptsRouterAdvertisements ? "2" : "0"))
        output.add(
            SysctlResource(
                key: "net/ipv6/conf/\(name)/autoconf", value: interface.acceptsRouterAdvertisements ? "1" : "0"))
        if interface.acceptsRouterAdvertisements {
            // A router's own word is no reason to prefer it (RFC 4191, section 5).
            output.add(SysctlResource(key: "net/ipv6/conf/\(name)/accept_ra_rtr_pref", value: "0"))
        }
        guard interface.usesDHCP else { return }
        if let lease = facts.leases[name], let other = overlap(lease, interface, configuration) {
            output.say(
                .warning, path: other.path,
                "the lease \(lease.address) of \(name) overlaps \(other.value): it is not used",
                hint: "give the site another network, or the provider's box")
        }
        if let lease = lease(of: interface, configuration, facts) {
            output.add(AddressResource(link: name, lease.address))
            if let gateway = lease.gateway, let all = IPPrefix("0.0.0.0/0") {
                // Two of them may come by two interfaces: the first one goes before.
                let metric = 100 + (configuration.interfaces.firstIndex { $0.value.name == name } ?? 0)
                // Some providers lend a lone address, with a gateway beyond it.
                if !lease.address.contains(gateway), let host = IPPrefix(gateway, length: 32) {
                    output.add(RouteResource(to: host, link: name, metric: metric))
                }
                output.add(RouteResource(to: all, via: gateway, link: name, metric: metric))
            }
            for route in lease.routes where route.to.length != 0 {
                output.add(RouteResource(to: route.to, via: route.via, link: name))
            }
        }
        // dhcpcd would set it itself; /proc/sys is read-only for it.
        output.add(SysctlResource(key: "net/ipv4/conf/\(name)/promote_secondaries", value: "1"))
        let file = "/run/vcpe/network/dhcpcd-\(name).conf"
        output.add(DirectoryResource(path: "/run/vcpe/network", owner: "root", mode: 0o755))
        output.add(FileResource(path: file, content: dhcpcd, owner: "root", mode: 0o644))
        // It is root: its proxy opens raw sockets for the part that reads packets, which is not.
        output.add(
            ServiceResource(
                name: "network-dhcp-\(name)",
                command: [
                    "/usr/sbin/dhcpcd", "--nobackground", "--noconfigure", "--ipv4only", "--config", file,
                    "--script",
                    "/usr/lib/vcpe/report-dhcpcd", name,
                ],
                capabilities: [
                    "net_raw", "net_admin", "net_bind_service", "setuid", "setgid", "sys_chroot", "kill",
                    "chown", "dac_override",
                ],
                directories: ["/var/lib/dhcpcd", "/run/dhcpcd"], configurationFiles: [file], memory: 32 << 20,
                profile: .init(systemCalls: [.users, .chroot], families: [.netlink, .packet])))
    }

    /// Only reports: addresses, routes and resolvers are the engine's to write.
    private static let dhcpcd = """
        duid ll
        clientid
        noipv4ll
        noarp
        nodelay
        option subnet_mask, routers, domain_name_servers, interface_mtu, classless_static_routes
        option domain_name, domain_search, ntp_servers
        require dhcp_server_identifier
        timeout 0

        """

    private static func planResolvers(_ input: PlanInput, _ output: inout PlanOutput) {
        let servers = input.published.resolvers.sorted { $0.key < $1.key }.flatMap(\.value)
        output.add(DirectoryResource(path: "/run/vcpe/network", owner: "root", mode: 0o755))
        output.add(
            FileResource(
                path: "/run/vcpe/network/resolv.conf",
                content: servers.prefix(3).map { "nameserver \($0)\n" }.joined(), owner: "root", mode: 0o644))
    }

    // MARK: - Commands

    public static func show(
        _ command: String, _ configuration: NetworkConfiguration, input: CommandInput, into output: inout ShowOutput
    ) {
        if command == "prefix" { return show(uniqueLocal: input.facts.uniqueLocal, configuration, into: &output) }
        output.columns = ["interface", "address", "gateway", "resolvers"]
        for (name, lease) in input.facts.leases.sorted(by: { $0.key < $1.key }) {
            output.add(
                .text(name), .text(lease.address.description), .text(lease.gateway?.description ?? ""),
                .text(lease.resolvers.map(\.description).joined(separator: " ")))
        }
    }

    public static func act(
        _ command: String, _ configuration: NetworkConfiguration, input: CommandInput, into output: inout ActOutput
    ) {
        let name = input.arguments["interface"] ?? ""
        let asking = configuration.interfaces.map(\.value).filter(\.usesDHCP).map(\.name)
        guard asking.contains(name) else {
            return output.say(
                .error, path: "interfaces", "no interface \"\(name)\" asks a DHCP server",
                hint: asking.isEmpty ? "none does" : "these do: \(asking.joined(separator: ", "))")
        }
        output.add(.signal(service: "network-dhcp-\(name)", .hup))
        output.add(.say("the DHCP server of \(name) is asked anew; vcpectl network leases shows what comes"))
    }
}
