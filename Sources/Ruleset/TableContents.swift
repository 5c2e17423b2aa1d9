import Documents

/// All that a table holds.
public struct TableContents: Sendable, Hashable {
    public var family = TableFamily.inet
    public var chains: [Chain]
    public var sets: [NamedSet]
    public var counters: [NamedCounter]
    public var helpers: [NamedHelper]
    public var flowtable: Flowtable?

    public init(
        chains: [Chain] = [], sets: [NamedSet] = [], counters: [NamedCounter] = [], helpers: [NamedHelper] = [],
        flowtable: Flowtable? = nil
    ) {
        self.chains = chains
        self.sets = sets
        self.counters = counters
        self.helpers = helpers
        self.flowtable = flowtable
    }

    /// A document that `nft -j -f` takes: whoever doubts our own way to the kernel can compare.
    public func document(table: String) -> JSON {
        var items: [JSON] = [["table": ["family": .text(family.rawValue), "name": .text(table)]]]
        func object(_ kind: String, _ body: JSON) {
            var entries = body.object ?? [:]
            entries["family"] = .text(family.rawValue)
            entries["table"] = .text(table)
            items.append([kind: .object(entries)])
        }
        for counter in counters { object("counter", counter.json) }
        for helper in helpers { object("ct helper", helper.json) }
        if let flowtable { object("flowtable", flowtable.json) }
        for chain in chains {
            object(
                "chain",
                .object([
                    "name": .text(chain.name), "type": chain.hook.map { .text($0.kind.rawValue) },
                    "hook": chain.hook.map { .text($0.point.rawValue) },
                    "prio": chain.hook.map { .integer($0.priority) },
                    "policy": chain.hook.map { .text($0.policy.rawValue) },
                    "dev": chain.hook?.device.map { .text($0) },
                ]))
        }
        for set in sets { object(set.content == .members ? "set" : "map", set.json) }
        for chain in chains {
            for rule in chain.rules {
                var body = rule.json.object ?? [:]
                body["chain"] = .text(chain.name)
                object("rule", .object(body))
            }
        }
        return ["nftables": .list(items)]
    }
}
