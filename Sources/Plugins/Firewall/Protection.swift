import PluginKit

/// What keeps floods of a zone from the box and from what is behind it.
struct Protection: Sendable {
    /// Of one source, or to one destination.
    struct Limits: Sendable {
        /// New connections.
        var connections: Statement.Limit?
        var packets: Statement.Limit?
        /// Connections at once.
        var open: Int?
    }

    var zone: Located<String>
    /// Sources that no packet from there can have.
    var dropsBogons = false
    var dropsFragments = false
    /// Flags that no TCP has together, and fragments that would write over a header.
    var dropsStrange = true
    /// Hosts that pretend to be routers (RFC 6105), and such that pretend to be DHCP servers.
    var guardsRouters = false
    var guardsDHCP = false
    var source = Limits()
    var destination = Limits()
    /// Seconds that a source which is beyond its limits is blocked.
    var block: Int?
    /// Ports of servers behind the box for which it answers until the client has answered.
    var synProxy: [ClosedRange<Int>] = []

    static var shape: Shape<Protection> {
        let limits = Shape<Limits>.mapping("limits") { fields in
            let open = fields.optional("open", .integer(1...1_000_000))
            return Limits(
                connections: fields.optional("connections", .rate),
                packets: fields.optional("packets", .rate), open: open)
        }
        return .mapping("the protection of a zone") { fields in
            let zone = fields.required("zone", Shape<String>.name.located)
            let bogons = fields.optional("bogons", .boolean) ?? false
            let fragments = fields.optional("fragments", .boolean) ?? true
            let strange = fields.optional("strange", .boolean) ?? false
            let guardsRouters = fields.optional("ra-guard", .boolean) ?? false
            let guardsDHCP = fields.optional("dhcp-guard", .boolean) ?? false
            let source = fields.optional("per-source", limits) ?? Limits()
            let destination = fields.optional("per-destination", limits) ?? Limits()
            let block = fields.optional("block-for", .seconds(1...2_592_000))
            let proxy = fields.optional("syn-proxy", .list(of: .ports)) ?? []
            fields.refuseEmptyLists(["syn-proxy"])
            if block != nil, source.connections == nil, source.packets == nil, source.open == nil {
                fields.problems.add(
                    fields.node, fields.path, "nobody is blocked without limits per-source", hint: "give per-source")
            }
            if destination.open != nil || destination.packets != nil {
                fields.problems.add(
                    fields.node["per-destination"]?.value ?? fields.node, fields.path + ".per-destination",
                    "a destination has a limit of new connections only", hint: "give connections")
            }
            return zone.map {
                Protection(
                    zone: $0, dropsBogons: bogons, dropsFragments: !fragments, dropsStrange: !strange,
                    guardsRouters: guardsRouters, guardsDHCP: guardsDHCP, source: source,
                    destination: destination, block: block, synProxy: proxy)
            }
        }
    }

    // MARK: - Planning

    static let (blocked, offenders) = ("firewall.blocked", "firewall.offenders")

    /// Whom operators have blocked, and who was blocked by a limit: before connections are looked up.
    static func planBlocked(_ protections: [Located<Protection>], _ output: inout PlanOutput) -> [Rule] {
        let comment = "firewall: blocked"
        output.add(.counter(NamedCounter(blocked, comment: comment)))
        output.add(.feed(FeedResource(blocked, sets: FedAddresses.plan(blocked, &output))))
        var rules = IPAddress.Family.allCases.map { family in
            Rule([FedAddresses.isIn(blocked, family, "saddr"), .counter(blocked), .verdict(.drop)], comment: comment)
        }
        guard protections.contains(where: { $0.value.block != nil }) else { return rules }
        output.add(.counter(NamedCounter(offenders, comment: "firewall: offenders")))
        for family in IPAddress.Family.allCases {
            output.add(set: DynamicAddresses.set(offenders, family, timeout: 600))
            rules.append(
                Rule(
                    [
                        .match(
                            DynamicAddresses.key(family, "saddr"), .equal,
                            .named(FedAddresses.name(offenders, family))), .counter(offenders), .verdict(.drop),
                    ], comment: "firewall: offenders"))
        }
        return rules
    }

    /// Chains of all zones that are protected.
    static func plan(
        _ protections: [Located<Protection>], blocked: [Rule], _ published: Published, _ output: inout PlanOutput
    ) {
        var (early, new, devices): ([Rule], [Rule], [String]) = ([], [], [])
        var (untracked, answered, proven): ([Rule], [Rule], [Rule]) = ([], [], [])
        var (guarded, ports): ([Rule], [String]) = ([], [])
        for protection in protections {
            guard let zone = output.zone(protection.value.zone.value, at: protection.value.zone.path, in: published)
            else { continue }
            let comment = "firewall: \(protection.path)"
            let comes = Statement.match(.meta(.interface), .equal, .named(zone.set))
            let interfaces = published.interfaces.values.filter { $0.zone == zone.name }
            devices += interfaces.map(\.name)
            let first = Chain(
                "firewall.early.\(zone.name)",
                rules: blocked + protection.value.early(zone.name, interfaces, comment, &output))
            output.add(.chain(first, stage: nil))
            early.append(Rule([comes, .verdict(.jump(first.name))], comment: comment))
            // Hosts of a bridge hear each other without the box's being asked, but for the ports.
            let guards = protection.value.guards(zone.name, comment, &output)
            let links = interfaces.flatMap(\.ports).sorted()
            if !guards.isEmpty, !links.isEmpty {
                let chain = Chain("firewall.guard.\(zone.name)", rules: guards)
                output.add(.chain(chain, stage: nil))
                ports += links
                guarded.append(
                    Rule(
                        [
                            .match(.meta(.interface), .equal, .set(links.map { .text($0) })),
                            .verdict(.jump(chain.name)),
                        ], comment: comment))
            }
            let limits = protection.value.limits(zone.name, comment, &output)
            if !limits.isEmpty {
                let chain = Chain("firewall.flood.\(zone.name)", rules: limits)
                output.add(.chain(chain, stage: nil))
                new.append(
                    Rule(
                        [comes, .match(.ct(.state), .any, .text("new")), .verdict(.jump(chain.name))], comment: comment)
                )
            }
            if protection.value.synProxy.isEmpty { continue }
            let ports = Expression.set(protection.value.synProxy.map { .ports($0) })
            let flags: Expression = .list(["fin", "syn", "rst", "ack"].map { .text($0) })
            untracked.append(
                Rule(
                    [
                        comes, .match(.selector(.fib([.daddr], .kind)), .notEqual, .text("local")),
                        .match(.payload(.tcp, "dport"), .equal, ports),
                        .match(.and(.payload(.tcp, "flags"), flags), .equal, .text("syn")), .notrack,
                    ], comment: comment))
            // The first packet is answered where the rules have accepted it, and only there: a client that has no such answer
            // can't prove that it is one, and what is proven reaches the server past all rules.
            let proxy = { (state: String) in
                Rule(
                    [
                        comes, .match(.payload(.tcp, "dport"), .equal, ports),
                        .match(.ct(.state), .any, .text(state)), .synproxy(.init()),
                    ], comment: comment)
            }
            answered.append(proxy("untracked"))
            proven.append(proxy("invalid"))
        }
        if !early.isEmpty {
            output.add(
                .chain(
                    Chain("firewall.early", rules: early),
                    stage: .init(.earlyDrop, order: 100, devices: devices.sorted())))
        }
        if !guarded.isEmpty {
            output.add(
                .chain(
                    Chain("firewall.guard", rules: guarded),
                    stage: .init(.earlyDrop, order: 50, devices: ports.sorted())))
        }
        if !new.isEmpty {
            output.add(.chain(Chain("firewall.flood", rules: new), stage: .init(.forwardGuard, order: 100)))
            output.add(.chain(Chain("firewall.flood-box", rules: new), stage: .init(.inputGuard, order: 100)))
        }
        if !untracked.isEmpty {
            output.add(.chain(Chain("firewall.untracked", rules: untracked), stage: .init(.noTrack, order: 100)))
            output.add(.chain(Chain("firewall.syn-proxy", rules: answered), stage: .init(.inspect, order: 900)))
            // Behind whoever is isolated.
            output.add(.chain(Chain("firewall.syn-proven", rules: proven), stage: .init(.forwardGuard, order: 150)))
            // An answer to a challenge belongs to no connection yet, and none may be taken up in the middle.
            output.add(SysctlResource(key: "net/netfilter/nf_conntrack_tcp_loose", value: "0"))
        }
    }

    private func counter(_ zone: String, _ what: String, _ comment: String, _ output: inout PlanOutput) -> Statement {
        let counter = NamedCounter("firewall.protection.\(zone).\(what)", comment: comment)
        output.add(.counter(counter))
        return .counter(counter.name)
    }

    /// Where packets come in.
    private func early(
        _ zone: String, _ interfaces: [Interface], _ comment: String, _ output: inout PlanOutput
    ) -> [Rule] {
        var rules: [Rule] = []
        func drop(_ what: String, _ matches: [[Statement]]) {
            let counter = counter(zone, what, comment, &output)
            rules += matches.map { Rule($0 + [counter, .verdict(.drop)], comment: comment) }
        }
        func offset(_ mask: Int, _ comparison: Statement.Comparison, _ value: Int) -> [Statement] {
            [.match(.and(.payload(.ip, "frag-off"), .number(mask)), comparison, .number(value))]
        }
        if dropsFragments {
            drop("fragments", [offset(0x3FFF, .notEqual, 0), [.match(.selector(.isFragment), .equal, .number(1))]])
        }
        if dropsStrange {
            func flags(_ mask: [String], _ set: [String]) -> [Statement] {
                let wanted: Expression = set.isEmpty ? .number(0) : .list(set.map { .text($0) })
                return [.match(.and(.payload(.tcp, "flags"), .list(mask.map { .text($0) })), .equal, wanted)]
            }
            // A second fragment that begins within TCP's header (RFC 3128).
            drop("tiny-fragments", [offset(0x1FFF, .equal, 1)])
            let all = ["fin", "syn", "rst", "psh", "ack", "urg"]
            drop(
                "flags",
                [
                    flags(all, []), flags(["fin", "syn"], ["fin", "syn"]), flags(["syn", "rst"], ["syn", "rst"]),
                    flags(["fin", "rst"], ["fin", "rst"]), flags(["fin", "ack"], ["fin"]),
                    flags(["psh", "ack"], ["psh"]), flags(["urg", "ack"], ["urg"]),
                ])
        }
        if dropsBogons {
            for family in IPAddress.Family.allCases {
                let own = interfaces.flatMap(\.addresses).filter { $0.family == family }
                let ranges = Bogons.sources(family).filter { range in
                    // What the zone itself is, is none: a provider may number its access so.
                    !own.contains { IPRange("\($0.network)").map { range.values.overlaps($0.values) } ?? false }
                }
                drop(
                    "bogons",
                    [
                        [
                            .match(
                                .payload(family == .ipv4 ? .ip : .ip6, "saddr"), .equal,
                                .set(ranges.map(\.expression)))
                        ]
                    ])
            }
        }
        if let limit = source.packets {
            rules += over(.limit(limit), zone, "packets", "saddr", comment, &output)
        }
        return rules
    }

    /// What only a router or a server sends.
    private func guards(_ zone: String, _ comment: String, _ output: inout PlanOutput) -> [Rule] {
        var rules: [Rule] = []
        if guardsRouters {
            let types = Expression.set(["nd-router-advert", "nd-redirect"].map { .text($0) })
            rules.append(
                Rule(
                    [
                        .match(.payload(.icmpv6, "type"), .equal, types), counter(zone, "routers", comment, &output),
                        .verdict(.drop),
                    ], comment: comment))
        }
        if guardsDHCP {
            let counter = counter(zone, "dhcp", comment, &output)
            // From a server's port to a client's.
            rules += [(67, 68), (547, 546)].map { server, client in
                Rule(
                    [
                        .match(.payload(.udp, "sport"), .equal, .number(server)),
                        .match(.payload(.udp, "dport"), .equal, .number(client)), counter, .verdict(.drop),
                    ], comment: comment)
            }
        }
        return rules
    }

    /// Of new connections.
    private func limits(_ zone: String, _ comment: String, _ output: inout PlanOutput) -> [Rule] {
        var rules: [Rule] = []
        if let limit = source.connections {
            rules += over(.limit(limit), zone, "connections", "saddr", comment, &output)
        }
        if let open = source.open {
            rules += over(.connections(over: open), zone, "open", "saddr", comment, &output)
        }
        if let limit = destination.connections {
            rules += over(.limit(limit), zone, "destination", "daddr", comment, &output)
        }
        return rules
    }

    /// Drops what is beyond, and blocks its source.
    private func over(
        _ each: Statement.Each, _ zone: String, _ what: String, _ field: String, _ comment: String,
        _ output: inout PlanOutput
    ) -> [Rule] {
        let counter = counter(zone, what, comment, &output)
        let name = "firewall.protection.\(zone).\(what)"
        return IPAddress.Family.allCases.map { family in
            let (test, set) = DynamicAddresses.over(each, name, family, field)
            output.add(set: set)
            var statements = [test, counter]
            if let block, field == "saddr" {
                statements.append(
                    .element(
                        .update, DynamicAddresses.key(family, field), set: FedAddresses.name(Self.offenders, family),
                        timeout: block))
            }
            return Rule(statements + [.verdict(.drop)], comment: comment)
        }
    }
}

/// Sets that packets fill with addresses: of IPv6 with networks of 64 bits, since a host has all of its network to choose from.
enum DynamicAddresses {
    /// Elements; beyond them nobody more is counted.
    private static let size = 65_535

    static func set(_ name: String, _ family: IPAddress.Family, timeout: Int?) -> NamedSet {
        NamedSet(
            FedAddresses.name(name, family), key: [family == .ipv4 ? .ipv4Address : .ipv6Address],
            flags: timeout == nil ? [.dynamic] : [.dynamic, .timeout], timeout: timeout, size: size)
    }

    static func key(_ family: IPAddress.Family, _ field: String) -> Expression {
        if family == .ipv4 { return .payload(.ip, field) }
        return field == "saddr" ? .and(.payload(.ip6, field), .text("ffff:ffff:ffff:ffff::")) : .payload(.ip6, field)
    }

    /// Goes on for what is beyond a limit of its own address, and the set that keeps count.
    static func over(
        _ each: Statement.Each, _ name: String, _ family: IPAddress.Family, _ field: String
    ) -> (test: Statement, set: NamedSet) {
        let set: NamedSet
        var kept = each
        switch each {
        case .connections: set = Self.set(name, family, timeout: nil)
        case .limit(var limit):
            limit.isOver = true
            kept = .limit(limit)
            // As long as it takes to be as good as never seen.
            let refilled = Int((UInt64(limit.burst + 1) * limit.per.seconds / UInt64(limit.rate)).clamped(60, 86_400))
            set = Self.set(name, family, timeout: refilled)
        }
        let operation: Statement.SetOperation = if case .connections = each { .add } else { .update }
        return (.element(operation, key(family, field), set: set.name, timeout: nil, each: kept), set)
    }
}

extension UInt64 {
    fileprivate func clamped(_ low: UInt64, _ high: UInt64) -> UInt64 { Swift.min(Swift.max(self, low), high) }
}

/// Addresses that no packet from the Internet has as its source: RFC 6890 and its registries, multicast.
enum Bogons {
    static func sources(_ family: IPAddress.Family) -> [IPRange] {
        let texts =
            family == .ipv4
            ? [
                "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
                "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
                "203.0.113.0/24", "224.0.0.0/3",
            ]
            : [
                "::1", "::ffff:0:0/96", "64:ff9b:1::/48", "100::/64", "2001:db8::/32", "3fff::/20", "5f00::/16",
                "fc00::/7", "ff00::/8",
            ]
        return texts.compactMap { IPRange($0) }
    }
}
