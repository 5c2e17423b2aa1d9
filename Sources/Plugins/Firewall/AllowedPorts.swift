import PluginKit

/// Packets to the box that no rule of the site decides about: allowed ports of services, echo, and
/// policies of zones towards the box.
extension Firewall {
    static let allowedCounters = "firewall.allowed."

    static func planAllowedPorts(
        _ configuration: FirewallConfiguration, _ compiler: FirewallCompiler, _ output: inout PlanOutput
    ) {
        var allowed: [(key: String, rules: [Rule])] = []
        for opening in compiler.openings {
            let counter = allowedCounters + opening.name
            output.add(.counter(NamedCounter(counter, comment: opening.name)))
            let port = [
                Statement.match(.meta(.interface), .equal, .text(opening.interface)),
                .match(.payload(opening.transport == .tcp ? .tcp : .udp, "dport"), .equal, .number(opening.port)),
            ]
            let sources: [[Statement]] =
                opening.sources.isEmpty
                ? [[]]
                : IPAddress.Family.allCases.compactMap { family in
                    Expression.any(of: opening.sources, family).map {
                        [.match(.payload(family == .ipv4 ? .ip : .ip6, "saddr"), .equal, $0)]
                    }
                }
            let rules = sources.map {
                Rule(port + $0 + [.counter(counter), .verdict(.accept)], comment: opening.name)
            }
            allowed.append((opening.name, rules))
        }
        output.add(chain: "firewall.openings", groups: allowed, stage: .init(.openings, order: 100))

        var rest = echoToBox
        for policy in sorted(configuration.policies) where policy.value.to.value == .box {
            var from: [Statement] = []
            if case .zone(let name) = policy.value.from.value {
                guard let zone = output.zone(name, at: policy.value.from.path, in: compiler.published) else { continue }
                from = [.match(.meta(.interface), .equal, .named(zone.set))]
            }
            let comment = "firewall: \(policy.path) \(policy.value.from.value) to box"
            let counter = policy.value.counter
            output.add(.counter(NamedCounter(counter, comment: comment)))
            rest.append(
                Rule(
                    from + [.counter(counter), .verdict(FirewallCompiler.verdict(policy.value.action))],
                    comment: comment))
        }
        if configuration.logsDrops { rest.append(logDrops("to box", configuration.logging)) }
        output.add(.chain(Chain("firewall.rest", rules: rest), stage: .init(.openings, order: 300)))
    }

    /// Warns of allowed ports that a rule of the site closes to all of their sources. The author of
    /// such a rule may have meant the rest, for which there are policies.
    static func warnOfClosedPorts(
        _ compiler: FirewallCompiler, _ rules: [Overlaps.Item], _ output: inout PlanOutput
    ) {
        for opening in compiler.openings {
            let spaces = compiler.spaces(of: opening)
            for rule in rules where rule.isToBox {
                guard rule.boxes.contains(where: { box in spaces.contains { box.space.meets($0) } }) else { continue }
                // A rule before lets some of its packets in: the port is closed to the rest on
                // purpose. A rule that is also about forwarded packets may meet them by chance.
                if rule.action == .accept {
                    if rule.isThrough { continue }
                    break
                }
                guard rule.isFinal, spaces.allSatisfy({ space in rule.boxes.contains { $0.takes(space) } }) else {
                    continue
                }
                output.say(
                    .warning, path: rule.path,
                    "\(opening.name) needs port \(opening.port)/\(opening.transport.rawValue) on \(opening.interface), "
                        + "and this rule \(rule.action == .drop ? "drops" : "rejects") all packets to it",
                    hint: "accept them in a rule before it, or make it a policy with to: box, which comes after "
                        + "allowed ports")
                break
            }
        }
    }

    /// Echo, within bounds, where no rule says otherwise. Errors belong to connections and are let through as related.
    private static let echoToBox = [
        echo(.icmp, rate: 50, "icmp"), echo(.icmpv6, rate: 50, "icmp, RFC 4890 4.4.1"),
    ]
}

extension FirewallConfiguration.Policy {
    /// No name of a zone has a dot.
    var counter: String { "firewall.policy.\(from.value).\(to.value)" }
}

extension FirewallCompiler {
    /// Allowed ports, by name.
    var openings: [Opening] { published.openings.values.sorted { $0.name < $1.name } }

    /// The packets that an allowed port is for, of each family that has a source.
    func spaces(of opening: Opening) -> [Space] {
        guard let interface = interfaces.firstIndex(of: opening.interface) else { return [] }
        var space = Space()
        space[.inbound] = [UInt128(interface)...UInt128(interface)]
        let number: UInt128 = opening.transport == .tcp ? 6 : 17
        space[.transport] = [number...number]
        space[.port] = [UInt128(opening.port)...UInt128(opening.port)]
        return IPAddress.Family.allCases.compactMap { family in
            let ranges =
                opening.sources.isEmpty
                ? [Space.Dimension.source.all(family, interfaces: interfaces.count)]
                : opening.sources.filter { $0.family == family }.map(\.values)
            if ranges.isEmpty { return nil }
            var made = space
            (made.family, made[.source]) = (family, .united(ranges))
            return made
        }
    }
}
