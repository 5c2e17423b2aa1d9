import PluginKit

/// The rules of the three stages, put together wish by wish.
struct NATRules {
    private(set) var dnat: [Rule] = []
    private(set) var through: [Rule] = []
    /// Before all others: who asks a host of its own network by the outside address must be answered through the box.
    private(set) var hairpin: [Rule] = []
    private(set) var snat: [Rule] = []

    mutating func add(source rule: Rule) { snat.append(rule) }
    mutating func add(destination rule: Rule) { dnat.append(rule) }
    mutating func add(through rule: Rule) { through.append(rule) }

    private static func isOf(_ family: IPAddress.Family) -> Statement {
        .match(.meta(.nfproto), .equal, .text(family == .ipv4 ? "ipv4" : "ipv6"))
    }

    private static func header(_ family: IPAddress.Family) -> Selector.Header { family == .ipv4 ? .ip : .ip6 }

    private static func family(_ family: IPAddress.Family) -> Statement.Family { family == .ipv4 ? .ip : .ip6 }

    /// One that an address lies in; no condition where nothing of the family is named.
    private static func isIn(_ list: [IPRange], _ family: IPAddress.Family, _ field: String) -> [Statement] {
        Expression.any(of: list, family).map { [.match(.payload(header(family), field), .equal, $0)] } ?? []
    }

    private static func counter(_ name: String, _ comment: String, _ output: inout PlanOutput) -> Statement {
        output.add(.counter(NamedCounter(name, comment: comment)))
        return .counter(name)
    }

    // MARK: - Sources

    mutating func plan(
        _ masquerade: Located<NATConfiguration.Masquerade>, _ published: Published, _ output: inout PlanOutput
    ) {
        let from = output.zone(masquerade.value.from.value, at: masquerade.value.from.path, in: published)
        let to = output.zone(masquerade.value.to.value, at: masquerade.value.to.path, in: published)
        guard let from, let to else { return }
        snat.append(
            Rule(
                [
                    Self.isOf(.ipv4), .match(.meta(.interface), .equal, .named(from.set)),
                    .match(.meta(.outputInterface), .equal, .named(to.set)), .masquerade,
                ], comment: "nat: \(masquerade.path) \(from.name) to \(to.name)"))
    }

    mutating func plan(
        _ rule: Located<NATConfiguration.SourceRule>, _ published: Published, _ output: inout PlanOutput
    ) {
        let value = rule.value
        let from = output.zone(value.from.value, at: value.from.path, in: published)
        let to = output.zone(value.to.value, at: value.to.path, in: published)
        guard let from, let to else { return }
        let comment = "nat: source[\(value.name)]"
        let counter = Self.counter("nat.source.\(value.name)", comment, &output)
        for family in value.families {
            let deed: Statement =
                switch value.translation.value {
                case .masquerade: .masquerade
                case .none: .verdict(.accept)
                case .pool(let range):
                    .nat(
                        .snat, Self.family(family),
                        address: range.first == range.last
                            ? .text(range.first.description)
                            : .range(.text(range.first.description), .text(range.last.description)),
                        port: nil, flags: range.first == range.last ? [] : [.persistent])
                }
            snat.append(
                Rule(
                    [
                        Self.isOf(family), .match(.meta(.interface), .equal, .named(from.set)),
                        .match(.meta(.outputInterface), .equal, .named(to.set)),
                    ] + Self.isIn(value.sources, family, "saddr") + Self.isIn(value.destinations, family, "daddr")
                        + [counter, deed], comment: comment))
        }
    }

    // MARK: - One to one

    mutating func plan(
        _ mapping: Located<NATConfiguration.OneToOne>, _ published: Published, _ output: inout PlanOutput
    ) {
        let value = mapping.value
        guard let zone = output.zone(value.zone.value, at: value.zone.path, in: published) else { return }
        let (outside, inside) = (value.outside.value, value.inside.value)
        let (family, header) = (outside.family, Self.header(outside.family))
        let comment = "nat: one-to-one[\(value.name)]"
        let counter = Self.counter("nat.one-to-one.\(value.name)", comment, &output)
        func words(_ prefix: IPPrefix) -> Expression {
            prefix.length == 8 * family.length
                ? .text(prefix.address.description) : .prefix(prefix.address.description, prefix.length)
        }
        let flags: Set<Statement.NATFlag> = outside.length == 8 * family.length ? [] : [.netmap]
        // From wherever: hosts inside reach each other by the addresses outside too.
        dnat.append(
            Rule(
                [
                    .match(.payload(header, "daddr"), .equal, words(outside)), counter,
                    .nat(.dnat, Self.family(family), address: words(inside), port: nil, flags: flags),
                ], comment: comment))
        snat.append(
            Rule(
                [
                    .match(.meta(.outputInterface), .equal, .named(zone.set)),
                    .match(.payload(header, "saddr"), .equal, words(inside)), counter,
                    .nat(.snat, Self.family(family), address: words(outside), port: nil, flags: flags),
                ], comment: comment))
        for interface in published.interfaces.values.sorted(by: { $0.name < $1.name })
        where interface.addresses.contains(where: { $0.family == family && $0.overlaps(inside) }) {
            hairpin.append(
                Rule(
                    [
                        .match(.meta(.interface), .equal, .text(interface.name)),
                        .match(.meta(.outputInterface), .equal, .text(interface.name)),
                        .match(.ct(.status), .any, .text("dnat")),
                        .match(.payload(header, "daddr"), .equal, words(inside)), .masquerade,
                    ], comment: comment + " (hairpin)"))
        }
    }

    // MARK: - Port forwards

    mutating func plan(_ forward: Located<NATConfiguration.Forward>, _ published: Published, _ output: inout PlanOutput)
    {
        let value = forward.value
        guard let from = output.zone(value.from.value, at: value.from.path, in: published) else { return }
        let home = published.interfaces.values.sorted { $0.name < $1.name }.first { interface in
            interface.addresses.contains { $0.contains(value.to.value) }
        }
        guard let home else {
            output.say(
                .error, path: value.to.path, "\(value.to.value) is in no network of an interface",
                hint: "forward to a host of a network that the box has an address in")
            return
        }
        let comment = "nat: forwards[\(value.name)]"
        let counter = Self.counter("nat.forward.\(value.name)", comment, &output)
        let family = value.to.value.family
        let address = Self.header(family)
        let target = value.toPort ?? value.ports.lowerBound
        let host: Expression = .text(value.to.value.description)
        // Hairpin: a host of the same network that asks for the outside address is answered like anybody, and its
        // answers come back through the box. The outside has none before a lease has come.
        let outside =
            value.outside.map { [$0] }
            ?? published.interfaces.values.filter { $0.zone == from.name && $0.name != home.name }
            .flatMap(\.addresses).filter { $0.family == family }.map(\.address).sorted()
        let transports: [Selector.Header] =
            switch value.transport {
            case .tcp: [.tcp]
            case .udp: [.udp]
            case .both: [.tcp, .udp]
            }
        for header in transports {
            let arrives: [Statement] = [
                .match(.payload(header, "dport"), .equal, .ports(value.ports)), counter,
                .nat(
                    .dnat, Self.family(family), address: host,
                    port: value.ports.count == 1 ? .number(target) : nil),
            ]
            let own: Statement =
                value.outside.map { .match(.payload(address, "daddr"), .equal, .text($0.description)) }
                ?? .match(.selector(.fib([.daddr], .kind)), .equal, .text("local"))
            dnat.append(
                Rule(
                    [Self.isOf(family), .match(.meta(.interface), .equal, .named(from.set)), own]
                        + Self.isIn(value.sources, family, "saddr") + arrives, comment: comment))
            if !outside.isEmpty, value.sources.isEmpty {
                dnat.append(
                    Rule(
                        [
                            .match(.meta(.interface), .equal, .text(home.name)),
                            .match(
                                .payload(address, "daddr"), .equal,
                                .set(outside.map { .text($0.description) })),
                        ] + arrives, comment: comment + " (hairpin)"))
            }
            let arrived: [Statement] = [
                .match(.ct(.status), .any, .text("dnat")), .match(.payload(address, "daddr"), .equal, host),
                .match(
                    .payload(header, "dport"), .equal, .ports(target...target + value.ports.count - 1)),
            ]
            // From where it is forwarded, and for whom: a mapping may have brought others to the same host.
            through.append(
                Rule(
                    [.match(.meta(.interface), .equal, .named(from.set))] + Self.isIn(value.sources, family, "saddr")
                        + arrived + [.verdict(.accept)], comment: comment))
            if !outside.isEmpty, value.sources.isEmpty {
                through.append(
                    Rule(
                        [.match(.meta(.interface), .equal, .text(home.name))] + arrived + [.verdict(.accept)],
                        comment: comment + " (hairpin)"))
            }
            hairpin.append(
                Rule(
                    [
                        .match(.meta(.interface), .equal, .text(home.name)),
                        .match(.meta(.outputInterface), .equal, .text(home.name)),
                    ] + arrived + [.masquerade], comment: comment + " (hairpin)"))
        }
    }
}
