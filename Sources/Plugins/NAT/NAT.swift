import PluginKit

/// Translation of addresses: masquerade, pools, one-to-one mappings, port forwards, and that of carriers.
public enum NAT: Plugin {
    public static let manifest = PluginManifest(
        name: "nat", version: "0.3.0",
        summary: "Masquerade, pools, one-to-one mappings, port forwards, carrier-grade translation", key: "nat",
        yang: "vcpe-nat.yang", publishes: [], reads: ["zones", "interfaces"],
        permissions: Permissions(
            sysctls: ["net/netfilter/nf_conntrack_*"],
            stages: [
                .dnat: false, .forwardGuard: false, .noOffload: true, .forward: true, .snat: true, .translated: false,
            ]),
        state: [.init("state.counters", of: "counters", names: ["nat.*"])], resources: ["nftables", "sysctl"],
        features: [
            .init(
                "base",
                modules: [
                    "nft_chain_nat", "nft_nat", "nft_masq", "nft_fib_ipv4", "nft_fib_ipv6", "nf_nat", "nft_connlimit",
                ])
        ],
        commands: [
            .init(
                .show, "who", "Which subscriber had a port of an address outside, now or at a time",
                arguments: [
                    .init("address", "Outside, such as 203.0.113.7"), .init("port", "1 to 65535"),
                    .init("time", "2026-11-25T18:00:00Z: by the site that the box followed then", isOptional: true),
                ], inputs: [.past("time")]),
            .init(
                .show, "block", "Which address and ports a subscriber has outside",
                arguments: [.init("address", "The subscriber's, such as 100.64.0.7")]),
            .init(
                .show, "carriers", "Carrier-grade translations and what became of their packets", inputs: [.counters]),
        ])

    public static var configuration: Shape<NATConfiguration> { NATConfiguration.shape }

    public static func publish(_ configuration: NATConfiguration, facts: Facts, into output: inout PublishOutput) {}

    public static func plan(_ configuration: NATConfiguration, input: PlanInput, into output: inout PlanOutput) {
        var rules = NATRules()
        // A port of an address goes before the whole address.
        for forward in configuration.forwards { rules.plan(forward, input.published, &output) }
        for mapping in configuration.oneToOne { rules.plan(mapping, input.published, &output) }
        for rule in configuration.sourceRules { rules.plan(rule, input.published, &output) }
        for carrier in configuration.carriers {
            carrier.value.plan(
                input.published, comment: "nat: carrier-grade[\(carrier.value.name)]", &rules, &output)
        }
        for masquerade in configuration.masquerade { rules.plan(masquerade, input.published, &output) }
        output.add(.chain(Chain("nat.dnat", rules: rules.dnat), stage: .init(.dnat, order: 100)))
        // Behind the firewall's rules, which may refuse what is forwarded, and before its policies.
        output.add(.chain(Chain("nat.forward", rules: rules.through), stage: .init(.forward, order: 200)))
        output.add(.chain(Chain("nat.snat", rules: rules.hairpin + rules.snat), stage: .init(.snat, order: 100)))
    }
}
