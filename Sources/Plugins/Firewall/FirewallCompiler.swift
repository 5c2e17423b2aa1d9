import PluginKit

/// Turns rules and policies of a site document into rules of nftables.
struct FirewallCompiler {
    let published: Published
    private(set) var counters: [NamedCounter] = []

    init(published: Published) { self.published = published }

    // MARK: - Policies

    mutating func compile(
        _ policy: Located<FirewallConfiguration.Policy>, _ output: inout PlanOutput
    ) -> [Rule] {
        let from = output.zone(policy.value.from.value, at: policy.value.from.path, in: published)
        let to = output.zone(policy.value.to.value, at: policy.value.to.path, in: published)
        guard let from, let to else { return [] }
        let comment = "firewall: \(policy.path) \(from.name) to \(to.name)"
        let counter = NamedCounter("firewall.policy.\(from.name)-\(to.name)", comment: comment)
        counters.append(counter)
        let zones: [Statement] = [
            .match(.meta(.interface), .equal, .named(from.set)),
            .match(.meta(.outputInterface), .equal, .named(to.set)),
        ]
        return verdicts(policy.value.action, transport: nil).map {
            Rule(zones + [.counter(counter.name)] + $0, comment: comment)
        }
    }

    /// The right answer to what is refused: TCP has one of its own (RFC 9293, section 3.10.7).
    private func verdicts(
        _ action: FirewallConfiguration.Action, transport: FirewallConfiguration.Transport?
    ) -> [[Statement]] {
        switch action {
        case .accept: return [[.verdict(.accept)]]
        case .drop: return [[.verdict(.drop)]]
        case .reject:
            let tcp: [Statement] = [.reject(.tcpReset)]
            let other: [Statement] = [.reject(.icmpx("admin-prohibited"))]
            switch transport {
            case .tcp: return [tcp]
            case nil: return [[.match(.meta(.l4proto), .equal, .text("tcp"))] + tcp, other]
            case .any: return [[.match(.meta(.l4proto), .equal, .text("tcp"))] + tcp, other]
            default: return [other]
            }
        }
    }

    // MARK: - Rules

    /// A rule may need several: one a family, and one for the log.
    mutating func compile(
        _ rule: Located<FirewallConfiguration.Rule>, _ output: inout PlanOutput
    ) -> (toBox: [Rule], through: [Rule]) {
        let value = rule.value
        // By its name: a rule that comes before it changes nothing of it.
        let comment = "firewall: rules[\(value.name)]"
        let counter = NamedCounter("firewall.rule.\(value.name)", comment: comment)
        var start: [Statement] = []
        var end: [Statement] = []
        if case .zone(let name) = value.from.value {
            guard let zone = output.zone(name, at: value.from.path, in: published) else { return ([], []) }
            start.append(.match(.meta(.interface), .equal, .named(zone.set)))
        }
        if case .zone(let name) = value.to.value {
            guard let zone = output.zone(name, at: value.to.path, in: published) else { return ([], []) }
            end.append(.match(.meta(.outputInterface), .equal, .named(zone.set)))
        }
        counters.append(counter)
        var compiled: [Rule] = []
        for match in matches(value) {
            let condition = start + end + match
            if value.isLogged {
                compiled.append(
                    Rule(
                        condition + [
                            .limit(.init(rate: 10, per: .second, burst: 20)),
                            .log(.init(prefix: "vcpe \(value.action.rawValue) \(value.name): ")),
                        ], comment: comment))
            }
            for verdict in verdicts(value.action, transport: value.transport) {
                compiled.append(Rule(condition + [.counter(counter.name)] + verdict, comment: comment))
            }
        }
        return (compiled, compiled)
    }

    /// The conditions beside zones, one list for each family that the rule is about; one for both where none is named.
    private func matches(_ rule: FirewallConfiguration.Rule) -> [[Statement]] {
        let named = rule.sources + rule.destinations
        let families: [IPAddress.Family?] =
            named.isEmpty
            ? (rule.transport == .icmp ? [.ipv4, .ipv6] : [nil])
            : IPAddress.Family.allCases.filter { family in
                [rule.sources, rule.destinations].allSatisfy { list in
                    list.isEmpty || list.contains { $0.family == family }
                }
            }
        return families.map { family in
            var statements: [Statement] = []
            if let family {
                let header: Selector.Header = family == .ipv4 ? .ip : .ip6
                for (list, field) in [(rule.sources, "saddr"), (rule.destinations, "daddr")] {
                    let items = Self.apart(list.filter { $0.family == family })
                    if !items.isEmpty {
                        statements.append(.match(.payload(header, field), .equal, .set(items.map(Self.expression))))
                    }
                }
            }
            return statements + transport(rule, family)
        }
    }

    /// Without networks that lie within others: the kernel takes no member of a set twice.
    private static func apart(_ prefixes: [IPPrefix]) -> [IPPrefix] {
        var kept: [IPPrefix] = []
        for prefix in prefixes.sorted(by: { $0.length < $1.length })
        where !kept.contains(where: { $0.overlaps(prefix) }) {
            kept.append(prefix)
        }
        return kept.sorted { $0.address < $1.address }
    }

    /// Ranges that meet become one.
    private static func apart(_ ports: [ClosedRange<Int>]) -> [ClosedRange<Int>] {
        var kept: [ClosedRange<Int>] = []
        for range in ports.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = kept.last, range.lowerBound <= last.upperBound + 1 {
                kept[kept.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
            } else {
                kept.append(range)
            }
        }
        return kept
    }

    private static func expression(_ prefix: IPPrefix) -> Expression {
        prefix.length == 8 * prefix.family.length
            ? .text(prefix.address.description) : .prefix(prefix.address.description, prefix.length)
    }

    private func transport(_ rule: FirewallConfiguration.Rule, _ family: IPAddress.Family?) -> [Statement] {
        let ports = Self.apart(rule.ports).map { ports -> Expression in
            ports.count == 1
                ? .number(ports.lowerBound) : .range(.number(ports.lowerBound), .number(ports.upperBound))
        }
        switch rule.transport {
        case nil: return []
        case .tcp, .udp:
            let isTCP = rule.transport == .tcp
            if ports.isEmpty { return [.match(.meta(.l4proto), .equal, .text(isTCP ? "tcp" : "udp"))] }
            return [.match(.payload(isTCP ? .tcp : .udp, "dport"), .equal, .set(ports))]
        case .any:
            let both: Statement = .match(.meta(.l4proto), .equal, .set([.text("tcp"), .text("udp")]))
            return ports.isEmpty ? [both] : [both, .match(.payload(.th, "dport"), .equal, .set(ports))]
        case .icmp:
            return family == .ipv6
                ? [.match(.payload(.icmpv6, "type"), .equal, .text("echo-request"))]
                : [.match(.payload(.icmp, "type"), .equal, .text("echo-request"))]
        case .gre: return [.match(.meta(.l4proto), .equal, .text("gre"))]
        case .esp: return [.match(.meta(.l4proto), .equal, .text("esp"))]
        }
    }
}
