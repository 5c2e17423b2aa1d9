import PluginKit

/// Zones, policies between them, and rules, on top of a packet path that drops what nobody accepts.
public enum Firewall: Plugin {
    public static let manifest = PluginManifest(
        name: "firewall", version: "0.1.0", summary: "Policies between zones, and rules",
        key: "firewall", yang: "vcpe-firewall.yang", publishes: [], resources: ["nftables"],
        features: [
            .init(
                "base",
                modules: [
                    "nf_tables", "nft_ct", "nft_limit", "nft_log", "nft_reject_inet", "nft_fib_inet", "nf_conntrack",
                    "nf_log_syslog",
                ])
        ],
        commands: [
            .init(
                .show, "hits", "What each rule and policy has counted, in their order",
                arguments: [.init("rule", "Of one alone", isOptional: true, values: "rules")], inputs: [.counters]),
            .init(.show, "top", "The rules and policies that counted most", inputs: [.counters]),
            .init(
                .act, "block", "Drop all from an address or a network, before any other rule",
                arguments: [.init("address", "Such as 198.51.100.7 or 198.51.100.0/24")]),
            .init(
                .act, "unblock", "Take a block back",
                arguments: [.init("address", "As it was blocked")]),
        ])

    public static var configuration: Shape<FirewallConfiguration> { FirewallConfiguration.shape }

    public static func publish(_ configuration: FirewallConfiguration, facts: Facts, into output: inout PublishOutput) {
    }

    public static func plan(_ configuration: FirewallConfiguration, input: PlanInput, into output: inout PlanOutput) {
        var compiler = FirewallCompiler(published: input.published)
        if configuration.preventsSpoofing { planAntiSpoofing(&output) }
        planOpenings(input.published, &output)

        // Operators' rules come first but for what IPv6 can't live without; then what RFC 4890 wants let through; policies last.
        var toBox: [(key: String, rules: [Rule])] = [("-discovery", neighbourDiscovery)]
        var through: [(key: String, rules: [Rule])] = []
        for rule in configuration.rules {
            if let until = rule.value.until {
                if until <= input.now { continue }
                output.planAgain(at: until)
            }
            let compiled = compiler.compile(rule, &output)
            if rule.value.to.value == .box || rule.value.to.value == .any {
                toBox.append((rule.value.name, compiled.toBox))
            }
            if rule.value.to.value != .box { through.append((rule.value.name, compiled.through)) }
        }
        toBox.append(("-echo", echoToBox))
        var policies = echoThrough
        for policy in configuration.policies { policies += compiler.compile(policy, &output) }
        if configuration.logsDrops {
            for (chain, prefix) in [(0, "to box"), (1, "through")] {
                let rule = Rule(
                    [
                        .limit(.init(rate: 10, per: .second, burst: 20)), .log(.init(prefix: "vcpe drop \(prefix): ")),
                    ], comment: "firewall: log-drops")
                if chain == 0 { toBox.append(("-log", [rule])) } else { policies.append(rule) }
            }
        }
        for counter in compiler.counters { output.add(.counter(counter)) }
        output.add(chain: "firewall.input", groups: toBox, stage: .init(.input, order: 100))
        output.add(chain: "firewall.forward", groups: through, stage: .init(.forward, order: 100))
        output.add(.chain(Chain("firewall.policies", rules: policies), stage: .init(.forward, order: 300)))
    }

    /// A source to which the answer would not go back by the same interface is somebody else's (RFC 3704, strict).
    private static func planAntiSpoofing(_ output: inout PlanOutput) {
        let comment = "firewall: anti-spoofing"
        output.add(.counter(NamedCounter("firewall.spoofed", comment: comment)))
        output.add(
            .chain(
                Chain(
                    "firewall.defend",
                    rules: [
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
                    ]), stage: .init(.defend, order: 100)))
    }

    /// What services of other plugins want to be reached by.
    private static func planOpenings(_ published: Published, _ output: inout PlanOutput) {
        let rules = published.openings.values.sorted { $0.name < $1.name }.map { opening in
            Rule(
                [
                    .match(.meta(.interface), .equal, .text(opening.interface)),
                    .match(
                        .payload(opening.transport == .tcp ? .tcp : .udp, "dport"), .equal, .number(opening.port)),
                    .verdict(.accept),
                ], comment: "\(opening.name)")
        }
        output.add(.chain(Chain("firewall.openings", rules: rules), stage: .init(.openings, order: 100)))
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

    /// Echo, within bounds, where no rule says otherwise. Errors belong to connections and are let through as related.
    private static let echoToBox = [
        echo(.icmp, rate: 50, "icmp"), echo(.icmpv6, rate: 50, "icmp, RFC 4890 4.4.1"),
    ]

    /// RFC 4890, section 4.3.1: echo must pass, or hosts can't be told from black holes; errors pass as related.
    private static let echoThrough = [echo(.icmpv6, rate: 100, "icmp, RFC 4890 4.3.1")]

    private static func echo(_ header: Selector.Header, rate: Int, _ origin: String) -> Rule {
        Rule(
            [
                .match(.payload(header, "type"), .equal, .text("echo-request")),
                .limit(.init(rate: rate, per: .second, burst: 2 * rate)), .verdict(.accept),
            ], comment: "firewall: \(origin)")
    }
}
