import PluginKit

/// The way of a packet through the box: one table, whose base chains and stages are the engine's. Plugins' chains are
/// called at stages; they never have base chains of their own, since an accept in one would not stop a drop in another.
/// A stage without chains costs a packet nothing: neither a rule nor a base chain is there for it.
/// `docs/packet-path.md` shows it.
public enum PacketPath {
    /// Of the family `inet`.
    public static let table = "vcpe"

    /// The base chains that a packet must pass, with the calls at each stage. Without calls they
    /// are what the table holds before the first link is up and before any plugin runs. Nothing is
    /// forwarded by it.
    ///
    /// - Parameters:
    ///   - calls: of plugins' chains, by stage, in their order.
    ///   - saved: the bits of packet marks that connections keep.
    static func chains(calling calls: [Stage: [Rule]] = [:], saving saved: UInt32 = 0) -> [Chain] {
        // One without rules that accepts is only a cost.
        base(calls, saved).filter { !$0.rules.isEmpty || $0.hook?.policy == .drop } + marks(saved)
    }

    private static let comment = "packet path"

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
    static func ingress(of device: String, calling calls: [Rule]) -> Chain {
        Chain(
            "ingress.\(device)", hook: Hook(.filter, .ingress, priority: -500, device: device),
            rules: calls)
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

    private static func base(_ calls: [Stage: [Rule]], _ saved: UInt32) -> [Chain] {
        let restored = restore(saved)
        func call(_ stages: Stage...) -> [Rule] { stages.flatMap { calls[$0] ?? [] } }
        return [
            Chain(
                "prerouting-raw", hook: Hook(.filter, .prerouting, priority: -300),
                rules: call(.defend, .noTrack)),
            Chain(
                "prerouting-mangle", hook: Hook(.filter, .prerouting, priority: -150),
                rules: restored + call(.classify, .steer)),
            Chain(
                "prerouting-nat", hook: Hook(.nat, .prerouting, priority: -100), rules: call(.dnat)),
            Chain(
                "input", hook: Hook(.filter, .input, priority: 0, policy: .drop),
                rules: [
                    Rule([.match(.meta(.interface), .equal, .text("lo")), .verdict(.accept)], comment: comment),
                    established,
                ] + call(.inputGuard, .input, .openings)),
            Chain(
                "forward", hook: Hook(.filter, .forward, priority: 0, policy: .drop),
                rules: call(.forwardGuard, .noOffload) + [established] + call(.forward)),
            Chain("forward-inspect", hook: Hook(.filter, .forward, priority: 10), rules: call(.inspect)),
            Chain(
                "output-route", hook: Hook(.route, .output, priority: -150),
                rules: restored + call(.steerOutput)),
            Chain("output", hook: Hook(.filter, .output, priority: 0), rules: call(.output)),
            Chain(
                "postrouting-mangle", hook: Hook(.filter, .postrouting, priority: -150),
                rules: call(.shape) + save(saved)),
            Chain("postrouting-nat", hook: Hook(.nat, .postrouting, priority: 100), rules: call(.snat)),
            Chain(
                "postrouting-translated", hook: Hook(.filter, .postrouting, priority: 110), rules: call(.translated)),
        ]
    }

    /// Base chains of translations. Without any of them the kernel translates packets of earlier
    /// connections no more (nft_chain_nat.c, nf_nat_inet_unregister_fn): those that were there
    /// stay, without rules.
    public static let translating: Set<String> = ["prerouting-nat", "postrouting-nat"]

    // MARK: - Marks

    private static let restoring = "restore-marks"

    /// The connection's fields are put into the packet's mark; other fields stay as they are.
    private static func restore(_ saved: UInt32) -> [Rule] {
        if saved == 0 { return [] }
        let isSaved = Statement.match(.and(.ct(.mark), .number(Int(saved))), .notEqual, .number(0))
        return [
            // A mark of a socket (SO_MARK), or of the packet that this one was unpacked from.
            Rule(
                [isSaved, .match(.meta(.mark), .notEqual, .number(0)), .verdict(.jump(restoring))], comment: comment),
            Rule(
                [
                    isSaved, .match(.meta(.mark), .equal, .number(0)),
                    .setMark(.meta(.mark), .and(.ct(.mark), .number(Int(saved)))),
                ], comment: comment),
        ]
    }

    /// Without a condition: a field that became 0 is saved, too. The kernel writes a mark that
    /// differs alone.
    private static func save(_ saved: UInt32) -> [Rule] {
        if saved == 0 { return [] }
        return [Rule([.setMark(.ct(.mark), .and(.meta(.mark), .number(Int(saved))))], comment: comment)]
    }

    private static func marks(_ saved: UInt32) -> [Chain] {
        if saved == 0 { return [] }
        // Linux before 6.13 can't combine two registers: a field is put beside others bit by bit.
        let bits = (0..<32).map { UInt32(1) << $0 }.filter { saved & $0 != 0 }
        let clear = Rule([.setMark(.meta(.mark), .and(.meta(.mark), .number(Int(~saved))))], comment: comment)
        let set = bits.map { bit in
            Rule(
                [
                    .match(.and(.ct(.mark), .number(Int(bit))), .notEqual, .number(0)),
                    .setMark(.meta(.mark), .or(.meta(.mark), .number(Int(bit)))),
                ], comment: comment)
        }
        return [
            Chain(restoring, rules: [clear] + set),
            // Packets to the box do not come to postrouting.
            Chain("input-marks", hook: Hook(.filter, .input, priority: 10), rules: save(saved)),
        ]
    }
}
