import PluginKit

/// Turns rules of a site document into boxes and what happens to packets in them.
struct FirewallCompiler {
    let published: Published
    let configuration: FirewallConfiguration
    /// Of all interfaces, in their order: dimensions know them by their places.
    let interfaces: [String]
    private let zones: [String: [ClosedRange<UInt128>]]
    private let services: [String: [Service]]
    /// By name, the kernel's sets that it is, each with the family of its members.
    private var sets: [String: [(family: IPAddress.Family, name: String)]] = [:]
    private(set) var names = Names()
    /// Sets in which packets keep count.
    private(set) var counting: [NamedSet] = []
    /// Kinds of helpers that rules want, with their transports.
    private(set) var helpers: Set<String> = []
    private(set) var counters: [NamedCounter] = []
    /// Chains of rules that do more than to count and to decide.
    private(set) var chains: [Chain] = []

    init(published: Published, configuration: FirewallConfiguration) {
        self.published = published
        self.configuration = configuration
        let interfaces = published.interfaces.keys.sorted()
        self.interfaces = interfaces
        zones = published.zones.mapValues { zone in
            .united(
                interfaces.indices.filter { published.interfaces[interfaces[$0]]?.zone == zone.name }.map {
                    UInt128($0)...UInt128($0)
                })
        }
        services = Service.wellKnown.merging(configuration.services.map { ($0.value.name, $0.value.services) }) { $1 }
        for set in configuration.sets.map(\.value) {
            let families =
                set.isFed
                ? IPAddress.Family.allCases
                : IPAddress.Family.allCases.filter {
                    set.members.map(\.family).contains($0)
                }
            sets[set.name] = families.map { ($0, FedAddresses.name(set.feed, $0)) }
            if set.names.isEmpty { continue }
            names.add(set.name, set.names)
            sets[set.name]? += Self.named(set.name)
        }
    }

    /// The sets with the addresses of domain names.
    private static func named(_ key: String) -> [(family: IPAddress.Family, name: String)] {
        IPAddress.Family.allCases.map { ($0, FedAddresses.name(Names.feed(key), $0)) }
    }

    func interfaces(in zone: String) -> [String] {
        (zones[zone] ?? []).flatMap { $0.lowerBound...$0.upperBound }.map { interfaces[Int($0)] }
    }

    /// Policies as rules behind all others, the more exact ones first.
    func policyItems(_ policies: [Located<FirewallConfiguration.Policy>]) -> [Overlaps.Item] {
        func limits(_ place: FirewallConfiguration.Place) -> [ClosedRange<UInt128>]? {
            if case .zone(let name) = place { zones[name] ?? [] } else { nil }
        }
        return Firewall.sorted(policies).map { policy in
            var box = Box(rule: 0)
            (box.space[.inbound], box.space[.outbound]) = (
                limits(policy.value.from.value), limits(policy.value.to.value)
            )
            let isToBox = policy.value.to.value == .box
            return Overlaps.Item(
                path: policy.path, action: policy.value.action, isToBox: isToBox, isThrough: !isToBox, boxes: [box],
                isPlain: true, isPolicy: true)
        }
    }

    static let rejection = "firewall.reject"

    /// The right answer to what is refused: TCP has one of its own (RFC 9293, section 3.10.7).
    static let rejecting = Chain(
        rejection,
        rules: [
            Rule(
                [.match(.meta(.l4proto), .equal, .text("tcp")), .reject(.tcpReset)],
                comment: Classifier.comment), Rule([.reject(.icmpx("admin-prohibited"))], comment: Classifier.comment),
        ])

    static func verdict(_ action: FirewallConfiguration.Action) -> Verdict {
        switch action {
        case .accept: .accept
        case .drop: .drop
        case .reject: .goto(rejection)
        }
    }

    /// What a rule that is in force does; its counter, and its chain where it needs one, are noted.
    mutating func outcome(_ rule: FirewallConfiguration.Rule) -> Classifier.Outcome {
        // By its name: a rule that comes before it changes nothing of it.
        let comment = "firewall: rules[\(rule.name)]"
        let counter = NamedCounter("firewall.rule.\(rule.name)", comment: comment)
        counters.append(counter)
        let verdict = Self.verdict(rule.action)
        guard rule.note != nil || rule.helper != nil || rule.rate != nil || rule.connections != nil else {
            return Classifier.Outcome(comment: comment, counter: counter.name, verdict: verdict, isFinal: true)
        }
        let counted: [Statement] = [.counter(counter.name), .verdict(verdict)]
        // The kernel's is of one transport.
        let followed = (rule.helper?.transports ?? []).map { transport in
            helpers.insert("\(rule.helper?.rawValue ?? "").\(transport)")
            return Rule(
                [
                    .match(.meta(.l4proto), .equal, .text(transport)),
                    .helper("firewall.helper.\(rule.helper?.rawValue ?? "").\(transport)"),
                ], comment: comment)
        }
        var rules: [Rule] = []
        // Beyond its rate a rule is as if it weren't there: nothing else of it may happen then.
        if let rate = rule.rate {
            if let each = rule.rateEach {
                rules += over(.limit(rate), "firewall.rate.\(rule.name)", each, comment)
            } else {
                var over = rate
                over.isOver = true
                rules.append(Rule([.limit(over), .verdict(.return)], comment: comment))
            }
        }
        if let connections = rule.connections {
            rules += over(
                .connections(over: connections.most), "firewall.connections.\(rule.name)", connections.each, comment)
        }
        if let note = rule.note {
            let prefix = note.prefix ?? "vcpe \(rule.action.rawValue) \(rule.name): "
            rules.append(Rule([.limit(note.limit), configuration.logging.statement(prefix)], comment: comment))
        }
        rules += followed
        rules.append(Rule(counted, comment: comment))
        let chain = Chain("firewall.do.\(rule.name)", rules: rules)
        chains.append(chain)
        return Classifier.Outcome(
            comment: comment, counter: nil, verdict: .jump(chain.name),
            isFinal: rule.rate == nil && rule.connections == nil)
    }

    /// Leaves the rule for what is beyond a limit of its own address.
    private mutating func over(
        _ each: Statement.Each, _ name: String, _ address: FirewallConfiguration.Each, _ comment: String
    ) -> [Rule] {
        IPAddress.Family.allCases.map { family in
            let (test, set) = DynamicAddresses.over(each, name, family, address == .source ? "saddr" : "daddr")
            counting.append(set)
            return Rule([test, .verdict(.return)], comment: comment)
        }
    }

    // MARK: - Boxes

    private static let mostBoxes = 4096

    /// The boxes of a rule, the same for packets to the box and through it; none for one that can't be read.
    mutating func boxes(
        _ rule: Located<FirewallConfiguration.Rule>, place: Int, _ output: inout PlanOutput
    ) -> [Box] {
        let value = rule.value
        var box = Box(rule: place)
        guard let inbound = limits(value.from, value.interface, &output) else { return [] }
        guard let outbound = limits(value.to, nil, &output) else { return [] }
        (box.space[.inbound], box.space[.outbound]) = (inbound, outbound)
        // A zone without an interface has no packets.
        if inbound?.isEmpty == true || outbound?.isEmpty == true { return [] }
        guard let services = services(of: value, &output) else { return [] }
        var boxes: [Box] = []
        let (origins, targets) = (
            addresses(value.sources, value.sourceGroups, "saddr", value.name, &output),
            addresses(value.destinations, value.destinationGroups, "daddr", value.name, &output)
        )
        let count = [origins.count, targets.count, services.count, max(1, value.codePoints.count)].reduce(1, *)
        guard count <= Self.mostBoxes else {
            output.say(
                .error, path: rule.path,
                "its sets, services and code points make \(count) combinations, and \(Self.mostBoxes) are allowed",
                hint: "put sets together, or make several rules")
            return []
        }
        for (family, sources, source) in origins {
            for (other, destinations, destination) in targets
            where family == nil || other == nil || family == other {
                for service in services {
                    var made = box
                    (made.space[.source], made.space[.destination]) = (sources, destinations)
                    made.conditions = source + destination
                    for family in add(service, to: &made, family ?? other) {
                        made.space.family = family
                        for one in withMACs(value, made) { boxes += withCodePoints(value, one) }
                    }
                }
            }
        }
        return boxes
    }

    /// The interfaces of a zone, and of them one; no limits for any. Nil for what isn't there, which is said.
    private func limits(
        _ place: Located<FirewallConfiguration.Place>, _ interface: Located<String>?, _ output: inout PlanOutput
    ) -> [ClosedRange<UInt128>]?? {
        var limits: [ClosedRange<UInt128>]?
        if case .zone(let name) = place.value {
            guard let zone = output.zone(name, at: place.path, in: published) else { return nil }
            limits = zones[zone.name] ?? []
        }
        if let interface {
            guard let found = output.interface(interface.value, at: interface.path, in: published) else { return nil }
            if case .zone(let name) = place.value, found.zone != name {
                output.say(
                    .error, path: interface.path,
                    "the interface \(found.name) is in the zone \(found.zone), not in \(name)",
                    hint: "give from: \(found.zone), or an interface of \(name)")
                return nil
            }
            let number = UInt128(interfaces.firstIndex(of: found.name) ?? 0)
            limits = [number...number]
        }
        return .some(limits)
    }

    /// What a rule is about beside addresses; one that stands for all where it says nothing.
    private func services(of rule: FirewallConfiguration.Rule, _ output: inout PlanOutput) -> [Service?]? {
        var found: [Service?] = rule.services
        for name in rule.named {
            guard let services = services[name.value] else {
                let known = configuration.services.map(\.value.name) + Service.wellKnown.keys.sorted()
                let meant = didYouMean(name.value, among: known).map { "did you mean \($0)? " } ?? ""
                output.say(
                    .error, path: name.path, "there is no service \"\(name.value)\"",
                    hint: meant + "define it under services, or give protocol and ports")
                return nil
            }
            found += services
        }
        return found.isEmpty ? [nil] : found
    }

    /// By family the ranges that are named, and sets each by itself; one without a limit where nothing is named.
    private mutating func addresses(
        _ list: [Located<FirewallConfiguration.Addresses>], _ groups: [Located<String>], _ field: String,
        _ rule: String, _ output: inout PlanOutput
    ) -> [(family: IPAddress.Family?, ranges: [ClosedRange<UInt128>]?, conditions: [Statement])] {
        if list.isEmpty, groups.isEmpty { return [(nil, nil, [])] }
        var result: [(IPAddress.Family?, [ClosedRange<UInt128>]?, [Statement])] = []
        for family in IPAddress.Family.allCases {
            let ranges = list.compactMap { item -> ClosedRange<UInt128>? in
                if case .range(let range) = item.value, range.family == family { range.values } else { nil }
            }
            if !ranges.isEmpty { result.append((family, .united(ranges), [])) }
        }
        for item in list {
            guard case .set(let name) = item.value else { continue }
            guard let parts = sets[name] else {
                let known = configuration.sets.map(\.value.name)
                let meant = didYouMean(name, among: known).map { "did you mean @\($0)? " } ?? ""
                output.say(
                    .error, path: item.path, "there is no set \"\(name)\"",
                    hint: meant
                        + "sets are \(known.isEmpty ? "nowhere defined" : known.sorted().joined(separator: ", "))")
                continue
            }
            result += parts.map { ($0.family, nil, [FedAddresses.isIn(set: $0.name, $0.family, field)]) }
        }
        let domains = list.compactMap { item -> String? in if case .name(let name) = item.value { name } else { nil } }
        if !domains.isEmpty {
            let key = "\(rule).\(field == "saddr" ? "source" : "destination")"
            names.add(key, domains)
            result += Self.named(key).map { ($0.family, nil, [FedAddresses.isIn(set: $0.name, $0.family, field)]) }
        }
        let known = configuration.identities.groups.map(\.value.name)
        for group in groups {
            guard known.contains(group.value) else {
                let problem = group.unknown("group", known)
                output.say(.error, path: group.path, problem.message, hint: problem.hint)
                continue
            }
            let feed = Identities.feed(group.value)
            result += IPAddress.Family.allCases.map { ($0, nil, [FedAddresses.isIn(feed, $0, field)]) }
            // A destination has no hardware address that the box would know before it forwards.
            if field == "saddr" {
                result.append(
                    (nil, nil, [.match(.payload(.ether, "saddr"), .equal, .named(Identities.macs(group.value)))]))
            }
        }
        return result
    }

    /// Puts what a service says into a box.
    ///
    /// - Returns: the family that it may be of, nil for both; none when the two don't go together.
    private func add(_ service: Service?, to box: inout Box, _ family: IPAddress.Family?) -> [IPAddress.Family?] {
        guard let service else { return [family] }
        let number = UInt128(service.transport)
        box.space[.transport] = [number...number]
        box.space[.port] = service.ports.isEmpty ? nil : service.ports
        let header: Selector.Header =
            switch service.transport {
            case 1: .icmp
            case 58: .icmpv6
            case 17: .udp
            case 132: .sctp
            default: .tcp
            }
        if !service.sourcePorts.isEmpty {
            box.conditions.append(
                .match(
                    .payload(header, "sport"), .equal,
                    .set(
                        service.sourcePorts.map { .ports($0) })))
        }
        if let flags = service.flags {
            let mask: Expression = .list((flags.set + flags.clear).map { .text($0) })
            let wanted: Expression = flags.set.isEmpty ? .number(0) : .list(flags.set.map { .text($0) })
            box.conditions.append(.match(.and(.payload(.tcp, "flags"), mask), .equal, wanted))
        }
        guard service.transport == 1 || service.transport == 58 else { return [family] }
        // ICMP is of one family only.
        let own: IPAddress.Family = service.transport == 1 ? .ipv4 : .ipv6
        guard family == nil || family == own else { return [] }
        if !service.icmpTypes.isEmpty {
            box.conditions.append(
                .match(.payload(header, "type"), .equal, .set(service.icmpTypes.map { .text($0) })))
        }
        return [own]
    }

    private func withMACs(_ rule: FirewallConfiguration.Rule, _ box: Box) -> [Box] {
        if rule.macs.isEmpty { return [box] }
        var made = box
        made.conditions.append(
            .match(.payload(.ether, "saddr"), .equal, .set(rule.macs.map { .text($0.description) })))
        return [made]
    }

    private func withCodePoints(_ rule: FirewallConfiguration.Rule, _ box: Box) -> [Box] {
        if rule.codePoints.isEmpty { return [box] }
        return (box.space.family.map { [$0] } ?? IPAddress.Family.allCases).flatMap { family in
            rule.codePoints.map { point in
                var made = box
                made.space.family = family
                made.conditions.append(.match(.payload(family == .ipv4 ? .ip : .ip6, "dscp"), .equal, .text(point)))
                return made
            }
        }
    }
}
