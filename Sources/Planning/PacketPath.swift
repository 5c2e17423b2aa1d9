import PluginKit

/// The way of a packet through the box: one table, whose base chains and stages are the engine's. Plugins' chains are
/// called at stages; they never have base chains of their own, since an accept in one would not stop a drop in another.
/// `docs/packet-path.md` shows it.
public enum PacketPath {
    /// Of the family `inet`.
    public static let table = "vcpe"

    /// The chain that calls what plugins have at a stage.
    public static func chain(of stage: Stage) -> String { "stage.\(stage.rawValue)" }

    /// Fields of packet and connection marks, cut once for all: what a plugin writes is masked to its field.
    public enum MarkField: UInt32, CaseIterable {
        case route = 0x0000_00FF
        case hop = 0x0000_0F00
        case trafficClass = 0x000F_F000
        case firewall = 0x00F0_0000
        /// Left to programs that are none of ours.
        case thirdParties = 0xFF00_0000
    }

    /// The base chains, and an empty chain for each stage: what stands before the first link is up and before any plugin
    /// runs. Nothing is forwarded by it.
    public static var skeleton: [Chain] {
        Stage.allCases.map { chain(of: $0) }.sorted().map { Chain($0) } + base
    }

    private static var markFromConnection: Rule {
        Rule([.match(.ct(.mark), .notEqual, .number(0)), .setMark(.meta(.mark), .ct(.mark))], comment: comment)
    }

    private static let comment = "packet path"

    private static func call(_ stage: Stage) -> Rule { Rule([.verdict(.jump(chain(of: stage)))], comment: comment) }

    private static var established: Rule {
        Rule(
            [
                .verdictMap(
                    .ct(.state),
                    [
                        .init(.text("established"), .accept), .init(.text("related"), .accept),
                        .init(.text("invalid"), .drop),
                    ])
            ], comment: comment)
    }

    /// What a link's packets meet first.
    static func ingress(of device: String) -> Chain {
        Chain(
            "ingress.\(device)", hook: Hook(.filter, .ingress, priority: -500, device: device),
            rules: [call(.earlyDrop)])
    }

    /// The forward chain with a rule that gives established connections to a flowtable, behind the stage that may keep them
    /// from it; without one where there is none.
    static func offloading(_ chain: Chain, to flowtable: Flowtable?) -> Chain {
        var chain = chain
        chain.rules.removeAll { rule in
            rule.statements.contains { statement in
                if case .other(let other) = statement { other.value is Statement.FlowOffload } else { false }
            }
        }
        guard let flowtable, let place = chain.rules.firstIndex(of: established) else { return chain }
        let rule = Rule(
            [.match(.ct(.state), .any, .text("established")), .flow(flowtable.name)], comment: comment)
        chain.rules.insert(rule, at: place)
        return chain
    }

    private static var base: [Chain] {
        [
            Chain(
                "prerouting-raw", hook: Hook(.filter, .prerouting, priority: -300),
                rules: [call(.defend), call(.noTrack)]),
            Chain(
                "prerouting-mangle", hook: Hook(.filter, .prerouting, priority: -150),
                rules: [
                    markFromConnection, call(.classify), call(.steer),
                ]),
            Chain(
                "prerouting-nat", hook: Hook(.nat, .prerouting, priority: -100), rules: [call(.dnat)]),
            Chain(
                "input", hook: Hook(.filter, .input, priority: 0, policy: .drop),
                rules: [
                    Rule([.match(.meta(.interface), .equal, .text("lo")), .verdict(.accept)], comment: comment),
                    established, call(.inputGuard), call(.openings), call(.input),
                ]),
            Chain(
                "forward", hook: Hook(.filter, .forward, priority: 0, policy: .drop),
                rules: [call(.forwardGuard), call(.noOffload), established, call(.forward)]),
            Chain("forward-inspect", hook: Hook(.filter, .forward, priority: 10), rules: [call(.inspect)]),
            Chain(
                "output-route", hook: Hook(.route, .output, priority: -150),
                rules: [markFromConnection, call(.steerOutput)]),
            Chain("output", hook: Hook(.filter, .output, priority: 0), rules: [call(.output)]),
            Chain(
                "postrouting-mangle", hook: Hook(.filter, .postrouting, priority: -150),
                rules: [
                    call(.shape),
                    Rule(
                        [.match(.meta(.mark), .notEqual, .number(0)), .setMark(.ct(.mark), .meta(.mark))],
                        comment: comment),
                ]),
            Chain("postrouting-nat", hook: Hook(.nat, .postrouting, priority: 100), rules: [call(.snat)]),
            Chain(
                "postrouting-translated", hook: Hook(.filter, .postrouting, priority: 110), rules: [call(.translated)]),
        ]
    }
}
