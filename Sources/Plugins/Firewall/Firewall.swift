import PluginKit

/// Zones, policies between them, and rules, on top of a packet path that drops what nobody accepts.
public enum Firewall: Plugin {
    public static let manifest = PluginManifest(
        name: "firewall", version: "0.1.0", summary: "Policies between zones, and rules",
        key: "firewall", yang: "vcpe-firewall.yang", publishes: [],
        reads: ["zones", "interfaces", "openings", "resolvers"],
        permissions: Permissions(
            services: [
                "firewall-log": .init(
                    ["/usr/sbin/ulogd"], users: ["vcpe-log"], capabilities: ["net_admin"], families: [.netlink]),
                "firewall-names": .init(["/usr/lib/vcpe/resolve-names"], users: ["vcpe-names"]),
            ],
            sysctls: ["net/netfilter/nf_conntrack_*"],
            stages: [
                .earlyDrop: false, .defend: false, .noTrack: false, .inputGuard: false, .input: true, .openings: true,
                // Proxied handshakes are accepted where they are met.
                .forwardGuard: true, .noOffload: true, .forward: true, .inspect: true,
            ], helpers: ["ftp", "pptp", "sip", "tftp"], hasFastPath: true),
        state: [.init("state.counters", of: "counters", names: ["firewall.*"])],
        resources: ["nftables", "sysctl", "kernel-module", "directory", "file", "service"],
        features: [
            .init(
                "base",
                modules: [
                    "nf_tables", "nft_ct", "nft_limit", "nft_log", "nft_reject_inet", "nft_fib_inet", "nf_conntrack",
                    "nf_log_syslog", "nft_connlimit", "nft_synproxy",
                    "nft_flow_offload", "nf_flow_table_inet",
                ], users: ["vcpe-names": "/nonexistent"]),
            .init(
                "helpers",
                modules: ["ftp", "pptp", "sip", "tftp"].flatMap { ["nf_conntrack_\($0)", "nf_nat_\($0)"] }),
            .init(
                "log", packages: ["ulogd2", "ulogd2-json"], modules: ["nfnetlink_log", "nf_conntrack_netlink"],
                users: ["vcpe-log": "/nonexistent"]),
        ],
        commands: [
            .init(
                .show, "hits", "What each rule and policy has counted, in their order",
                arguments: [.init("rule", "Of one alone", isOptional: true, values: "rules")], inputs: [.counters]),
            .init(.show, "top", "The rules and policies that counted most", inputs: [.counters]),
            .init(
                .act, "block", "Drop all from an address or a network, before any other rule",
                arguments: [
                    .init("address", "Such as 198.51.100.7 or 198.51.100.0/24"),
                    .init("time", "90s, 10m, 4h: it ends by itself, and is no commit", isOptional: true),
                ]),
            .init(
                .act, "unblock", "Take a block back, also one of a limit",
                arguments: [.init("address", "As it was blocked")], inputs: [.sets]),
            .init(
                .show, "sessions", "Connections that stand, and how they are translated",
                arguments: [
                    .init("address", "Of one address or network alone", isOptional: true)
                ], inputs: [.connections("address")]),
            .init(.show, "blocked", "Who is blocked for a time, by whom and how long", inputs: [.sets]),
            .init(
                .show, "names", "Domain names of rules and sets, and what became of them",
                inputs: [.file("\(Names.folder)/names/.status")]),
        ])

    public static var configuration: Shape<FirewallConfiguration> { FirewallConfiguration.shape }

    public static func publish(_ configuration: FirewallConfiguration, facts: Facts, into output: inout PublishOutput) {
    }

    public static func plan(_ configuration: FirewallConfiguration, input: PlanInput, into output: inout PlanOutput) {
        var compiler = FirewallCompiler(published: input.published, configuration: configuration)
        let blocked = Protection.planBlocked(configuration.protections, &output)
        planDefence(blocked, configuration, &output)
        Protection.plan(configuration.protections, blocked: blocked, input.published, &output)
        configuration.identities.plan(input.published, slowly: configuration.fastPath != .off, &output)
        output.rememberConnections()
        for set in configuration.sets { plan(set.value, &output) }

        // The site's rules come first but for what IPv6 can't live without; then allowed ports, echo and policies.
        var outcomes: [Classifier.Outcome] = []
        var (toBox, through): ([Box], [Box]) = ([], [])
        var paths: [String] = []
        var items: [Overlaps.Item] = []
        for rule in configuration.rules where rule.value.isEnabled {
            let (isHeld, changes) = rule.value.times.holds(at: input.now)
            if let changes { output.planAgain(at: changes) }
            // What is wrong is said now, not when its time has come.
            let boxes = compiler.boxes(rule, place: outcomes.count, &output)
            guard isHeld else { continue }
            let isToBox = [.box, .any].contains(rule.value.to.value)
            let isThrough = rule.value.to.value != .box
            if isToBox { toBox += boxes }
            if isThrough { through += boxes }
            let outcome = compiler.outcome(rule.value)
            if input.explains || isToBox {
                items.append(
                    .init(
                        path: rule.path, action: rule.value.action, isToBox: isToBox, isThrough: isThrough,
                        boxes: boxes, isPlain: rule.value.note == nil && outcome.isFinal, isFinal: outcome.isFinal))
            }
            outcomes.append(outcome)
            paths.append(rule.path)
        }
        let explains = input.explains
        var input = Classifier(interfaces: compiler.interfaces, boxes: toBox, outcomes: outcomes)
        var forward = Classifier(interfaces: compiler.interfaces, boxes: through, outcomes: outcomes)
        var groups = [(key: "-discovery", rules: neighbourDiscovery)]
        groups += input.compile(chain: "firewall.input")
        output.add(chain: "firewall.input", groups: groups, stage: .init(.input, order: 100))
        let rules = forward.compile(chain: "firewall.forward")
        output.add(chain: "firewall.forward", groups: rules, stage: .init(.forward, order: 100))
        for classifier in [input, forward] {
            for (name, groups) in classifier.chains { output.add(chain: name, groups: groups, stage: nil) }
            for set in classifier.sets { output.add(set: set) }
        }
        planAllowedPorts(configuration, compiler, &output)
        warnOfClosedPorts(compiler, items, &output)
        planPolicies(configuration, compiler, &output)
        var taken: Set<String> = []
        if explains {
            taken = Overlaps(
                items + compiler.policyItems(configuration.policies), interfaces: compiler.interfaces.count
            ).explain(&output)
            Overlaps.explain(input.sets + forward.sets, &output)
        }
        configuration.logging.plan(&output)
        if configuration.fastPath != .off {
            let flowtable = Flowtable(
                "firewall.fast", devices: compiler.interfaces, isHardware: configuration.fastPath == .hardware)
            output.add(.flowtable(flowtable))
        }
        compiler.names.plan(compiler.published, &output)
        for counter in compiler.counters { output.add(.counter(counter)) }
        for set in compiler.counting { output.add(set: set) }
        for helper in compiler.helpers.sorted() {
            let parts = helper.split(separator: ".").map(String.init)
            output.add(.helper(NamedHelper("firewall.helper.\(helper)", parts[0], parts[1])))
            for module in ["nf_conntrack_\(parts[0])", "nf_nat_\(parts[0])"] {
                output.add(KernelModuleResource(module))
            }
        }
        for chain in compiler.chains + [FirewallCompiler.rejecting] { output.add(.chain(chain, stage: nil)) }

        let had = Set(toBox.map(\.rule)).union(through.map(\.rule))
        for rule in had.subtracting(input.reached).subtracting(forward.reached).sorted()
        where !taken.contains(paths[rule]) {
            output.say(
                .warning, path: paths[rule],
                "no packet ever meets this rule: what comes before takes all of its packets",
                hint: "put it before, or leave it out",
                other: (forward.takers[rule] ?? input.takers[rule]).map { paths[$0] })
        }
    }

    static func logDrops(_ what: String, _ logging: Logging) -> Rule {
        Rule(
            [.limit(Logging.Note.usual.limit), logging.statement("vcpe drop \(what): ")],
            comment: "firewall: log-drops")
    }

    /// Members of a site's set, a set of the kernel for each family that it has.
    private static func plan(_ set: FirewallConfiguration.AddressSet, _ output: inout PlanOutput) {
        if set.isFed {
            let members = set.members.map { FeedMember(.addresses($0)) }
            return output.add(
                .feed(FeedResource(set.feed, sets: FedAddresses.plan(set.feed, &output), members: members)))
        }
        for family in IPAddress.Family.allCases {
            // The kernel takes no member of a set twice.
            let ranges = [ClosedRange<UInt128>].united(set.members.filter { $0.family == family }.map(\.values))
            if ranges.isEmpty { continue }
            let elements = ranges.map { SetElement(IPRange(family, $0).expression) }
            output.add(
                set: NamedSet(
                    FedAddresses.name(set.feed, family),
                    key: [family == .ipv4 ? .ipv4Address : .ipv6Address], flags: [.interval], elements: elements))
        }
    }

    /// The policy that says more goes first.
    static func sorted(
        _ policies: [Located<FirewallConfiguration.Policy>]
    ) -> [Located<FirewallConfiguration.Policy>] {
        func weight(_ policy: FirewallConfiguration.Policy) -> Int {
            (policy.from.value == .any ? 2 : 0) + (policy.to.value == .any ? 1 : 0)
        }
        return policies.enumerated().sorted {
            (weight($0.element.value), $0.offset) < (weight($1.element.value), $1.offset)
        }.map(\.element)
    }

    /// One look-up of the pair of interfaces, however many zones there are. The policy that says more goes before one that
    /// is for any zone.
    private static func planPolicies(
        _ configuration: FirewallConfiguration, _ compiler: FirewallCompiler, _ output: inout PlanOutput
    ) {
        var decided: [[String]: (counter: String, action: FirewallConfiguration.Action)] = [:]
        func members(_ place: Located<FirewallConfiguration.Place>) -> [String] {
            guard case .zone(let name) = place.value else { return compiler.interfaces }
            return output.zone(name, at: place.path, in: compiler.published).map { compiler.interfaces(in: $0.name) }
                ?? []
        }
        var last: [Rule] = []
        for policy in sorted(configuration.policies) where policy.value.to.value != .box {
            let comment = "firewall: \(policy.path) \(policy.value.from.value) to \(policy.value.to.value)"
            let counter = policy.value.counter
            output.add(.counter(NamedCounter(counter, comment: comment)))
            if policy.value.from.value == .any, policy.value.to.value == .any {
                // However many pairs are left, one rule behind the map takes them.
                last = [
                    Rule(
                        [
                            .counter(counter),
                            .verdict(FirewallCompiler.verdict(policy.value.action)),
                        ], comment: comment)
                ]
                continue
            }
            let outputs = members(policy.value.to)
            for input in members(policy.value.from) {
                for output in outputs where decided[[input, output]] == nil {
                    decided[[input, output]] = (counter, policy.value.action)
                }
            }
        }
        let entries = decided.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map { pair, policy in
            (key: Expression.concatenation(pair.map { .text($0) }), policy: policy)
        }
        let pair = Expression.concatenation([.meta(.interface), .meta(.outputInterface)])
        var rules = echoThrough
        if !entries.isEmpty {
            let (key, name) = ([DataType.interfaceName, .interfaceName], "firewall.policy-map")
            output.add(
                set: NamedSet(
                    name + ".n", key: key, content: .counters,
                    elements: entries.map { SetElement($0.key, .counter($0.policy.counter)) }))
            output.add(
                set: NamedSet(
                    name, key: key, content: .verdicts,
                    elements: entries.map {
                        SetElement($0.key, .verdict(FirewallCompiler.verdict($0.policy.action)))
                    }))
            rules.append(Rule([.counterMap(pair, name + ".n")], comment: Classifier.comment))
            rules.append(Rule([.namedVerdictMap(pair, name)], comment: Classifier.comment))
        }
        rules += last
        if configuration.logsDrops { rules.append(logDrops("through", configuration.logging)) }
        output.add(.chain(Chain("firewall.policies", rules: rules), stage: .init(.forward, order: 300)))
    }

    /// Whoever is blocked, and sources to which the answer would not go back by the same interface: they are somebody else's
    /// (RFC 3704, strict).
    private static func planDefence(
        _ blocked: [Rule], _ configuration: FirewallConfiguration, _ output: inout PlanOutput
    ) {
        let comment = "firewall: anti-spoofing"
        if configuration.preventsSpoofing {
            output.add(.counter(NamedCounter("firewall.spoofed", comment: comment)))
        }
        let spoofed =
            !configuration.preventsSpoofing
            ? []
            : [
                // Who has no address yet asks for one from none.
                Rule(
                    [.match(.payload(.ip, "saddr"), .equal, .text("0.0.0.0")), .verdict(.return)],
                    comment: comment),
                Rule(
                    [.match(.payload(.ip6, "saddr"), .equal, .text("::")), .verdict(.return)], comment: comment),
                Rule(
                    [.match(.payload(.ip6, "saddr"), .equal, .prefix("fe80::", 10)), .verdict(.return)],
                    comment: comment),
                Rule(
                    [
                        .match(.selector(.fib([.saddr, .iif], .interface)), .equal, .number(0)),
                        .counter("firewall.spoofed"), .verdict(.drop),
                    ], comment: comment),
            ]
        output.add(.chain(Chain("firewall.defend", rules: blocked + spoofed), stage: .init(.defend, order: 100)))
    }

    // MARK: - ICMP

    /// What IPv6 can't live without (RFC 4890, section 4.4.1), which never came over a router (hop limit 255).
    private static let neighbourDiscovery: [Rule] = [
        Rule(
            [
                .match(
                    .payload(.icmpv6, "type"), .equal,
                    .set(
                        ["nd-router-solicit", "nd-router-advert", "nd-neighbor-solicit", "nd-neighbor-advert"].map {
                            .text($0)
                        })), .match(.payload(.ip6, "hoplimit"), .equal, .number(255)), .verdict(.accept),
            ], comment: "firewall: icmp, RFC 4890 4.4.1"),
        Rule(
            [
                .match(.payload(.ip6, "saddr"), .equal, .prefix("fe80::", 10)),
                .match(
                    .payload(.icmpv6, "type"), .equal,
                    .set(
                        ["mld-listener-query", "mld-listener-report", "mld-listener-done", "mld2-listener-report"].map {
                            .text($0)
                        })), .verdict(.accept),
            ], comment: "firewall: icmp, RFC 4890 4.4.1"),
    ]

    /// RFC 4890, section 4.3.1: echo must pass, or hosts can't be told from black holes; errors pass as related.
    private static let echoThrough = [echo(.icmpv6, rate: 100, "icmp, RFC 4890 4.3.1")]

    static func echo(_ header: Selector.Header, rate: Int, _ origin: String) -> Rule {
        Rule(
            [
                .match(.payload(header, "type"), .equal, .text("echo-request")),
                .limit(.init(rate: rate, per: .second, burst: 2 * rate)), .verdict(.accept),
            ], comment: "firewall: \(origin)")
    }
}
