import Nftables
import Planning
import PluginKit

/// Our table in the kernel: one transaction for each change, only what differs travels.
final class NftablesDriver {
    private var connection: Connection
    /// What the kernel holds, as far as it was ours to put there; nil before the first full load.
    private var loaded: TablePlan?
    /// What a predecessor has put there, as far as its word goes.
    var believed: TablePlan?
    /// Counts our changes.
    private var revision = 0
    /// The ruleset's, after our last change.
    private var generation: UInt32?
    /// Kernels before 6.9 can't keep a table without its owner: there it has none.
    private var flags: Batch.TableFlags = [.owner, .persist]

    init() throws(NftablesError) { connection = try Connection() }

    /// Whether our table is there, whoever put it there.
    var hasTable: Bool { get throws { try connection.observe(table: PacketPath.table).exists } }

    /// Takes the table over, or makes it, with what `plan` says: all chains are refilled in one transaction. Counters
    /// and sets that packets fill keep what they hold.
    func load(_ plan: TablePlan) throws {
        do {
            try retrying { try self.full(plan, flags: self.flags) }
        } catch let error as NftablesError
            where flags != [] && error.refusals.allSatisfy({ $0.subject.hasPrefix("table") })
        {
            flags = []
            try retrying { try self.full(plan, flags: []) }
        }
        (loaded, generation, revision) = (plan, try connection.generation(), revision + 1)
    }

    /// A plan, and what leads to it from what the table holds.
    struct Change {
        let plan: TablePlan
        /// Nil when all of it must be sent.
        fileprivate var batch: Batch?
        /// Of which state that is true.
        fileprivate var revision: Int?
    }

    /// Has the kernel check a plan, and changes nothing.
    func check(_ plan: TablePlan) throws -> Change {
        guard let loaded else { return Change(plan: plan) }
        let batch = try changes(from: loaded, to: plan)
        try connection.check(try batch ?? full(plan, flags: flags))
        return Change(plan: plan, batch: batch, revision: revision)
    }

    /// Brings the table from what it holds to a plan.
    func apply(_ change: Change) throws {
        guard let loaded else { return try load(change.plan) }
        let isCurrent = change.revision == revision
        let batch = isCurrent ? change.batch : try changes(from: loaded, to: change.plan)
        if let batch {
            do {
                // A table with an owner is nobody else's to change.
                try connection.commit(batch, expecting: flags.contains(.owner) ? nil : generation)
            } catch {
                guard error.isStale else { throw error }
                return try load(change.plan)
            }
        }
        if batch == nil { try retrying { try self.full(change.plan, flags: self.flags) } }
        (self.loaded, generation, revision) = (change.plan, try connection.generation(), revision + 1)
    }

    func apply(_ plan: TablePlan) throws { try apply(Change(plan: plan)) }

    /// Where the table has no owner anybody may change it: a generation that we did not make says that somebody changed
    /// something, which may be this table. It is filled anew then.
    func wasChangedByOthers() throws -> Bool {
        guard !flags.contains(.owner), let generation else { return false }
        let current = try connection.generation()
        guard current != generation else { return false }
        // So that the next change sends all of it, and keeps what packets put into sets.
        (believed, loaded, self.generation) = (loaded ?? believed, nil, current)
        return true
    }

    // MARK: - Tracing

    /// Where packets that are to be traced are marked: after the kernel knows their connections, before any stage.
    static let traceChains = ["trace-prerouting", "trace-output"]

    /// Marks packets that a rule fits from now on; beside the plan, which knows nothing of it.
    func startTrace(_ rules: [Rule]) throws {
        var batch = Batch(table: PacketPath.table)
        for (name, point) in zip(Self.traceChains, [Hook.Point.prerouting, .output]) {
            try batch.add(Chain(name, hook: Hook(.filter, point, priority: -199)))
            batch.flushChain(name)
            for rule in rules { try batch.add(rule, to: name) }
        }
        try own(batch)
    }

    func endTrace() throws {
        let seen = try connection.observe(table: PacketPath.table).chains
        var batch = Batch(table: PacketPath.table)
        for name in Self.traceChains where seen.contains(name) {
            batch.flushChain(name)
            batch.deleteChain(name)
        }
        try own(batch)
    }

    /// A change of ours that no plan says.
    private func own(_ batch: Batch) throws {
        // Without an owner, what others changed meanwhile must be found: not by us as our own.
        try connection.commit(batch, expecting: flags.contains(.owner) ? nil : generation)
        if generation != nil { generation = try connection.generation() }
    }

    /// The rules that the table has now, by their handles.
    func rules() throws -> [UInt64: PlacedRule] { try connection.rules(table: PacketPath.table) }

    /// The members of a set of the plan that stands.
    func members(of set: NamedSet) throws -> [SetMember] {
        try connection.members(of: set, table: PacketPath.table)
    }

    func counters() throws -> [String: CounterValue] { try connection.counters(table: PacketPath.table) }

    /// Commits what `make` gives for the generation that it saw; once more when somebody changed the ruleset meanwhile.
    private func retrying(_ make: () throws -> Batch) throws {
        for attempt in 0..<5 {
            let generation = try connection.generation()
            do {
                return try connection.commit(try make(), expecting: generation)
            } catch let error as NftablesError where error.isStale && attempt < 4 { continue }
        }
    }

    /// All of a plan, whatever the kernel holds.
    private func full(_ plan: TablePlan, flags: Batch.TableFlags) throws -> Batch {
        let seen = try connection.observe(table: PacketPath.table)
        var batch = Batch(table: PacketPath.table, sets: plan.sets.values)
        batch.addTable(flags)
        // Rules first: they hold on to chains, sets and counters.
        for chain in seen.chains.sorted() { batch.flushChain(chain) }
        // What packets put into a set stays, as long as the set is declared as it was.
        let known = loaded ?? believed
        let kept = plan.sets.filter { name, set in
            seen.sets.contains(name) && set.flags.contains(.dynamic)
                && known?.sets[name]?.declaration == set.declaration
        }
        for set in seen.sets.subtracting(kept.keys).sorted() { batch.deleteSet(set) }
        // Maps hold on to the chains that they lead to.
        for chain in seen.chains.subtracting(plan.chains.keys).sorted() { batch.deleteChain(chain) }
        for counter in seen.counters.subtracting(plan.counters.keys).sorted() { batch.deleteCounter(counter) }
        let contents = plan.contents
        for counter in contents.counters where !seen.counters.contains(counter.name) { try batch.add(counter) }
        for chain in contents.chains { try batch.add(Chain(chain.name, hook: chain.hook)) }
        for set in contents.sets where kept[set.name] == nil { try batch.add(set) }
        for chain in contents.chains { for rule in chain.rules { try batch.add(rule, to: chain.name) } }
        return batch
    }

    /// The elements of a set that go and that come: parts that did not change are not looked into.
    private static func difference(
        _ old: TablePlan, _ new: TablePlan, of name: String
    ) -> (gone: [SetElement], come: [SetElement]) {
        var (before, after): ([SetElement], [SetElement]) = ([], [])
        func compare(_ had: [SetElement], _ wanted: [SetElement]) {
            if had == wanted { return }
            before += had
            after += wanted
        }
        compare(old.sets[name]?.elements ?? [], new.sets[name]?.elements ?? [])
        let (had, wanted) = (old.parts[name] ?? [:], new.parts[name] ?? [:])
        for (part, elements) in had { compare(elements, wanted[part] ?? []) }
        for (part, elements) in wanted where had[part] == nil { compare([], elements) }
        let (all, kept) = (Set(before), Set(after))
        return (before.filter { !kept.contains($0) }, after.filter { !all.contains($0) })
    }

    /// What leads from one plan to another; nil when a set's declaration changes under the rules that use it, which
    /// wants a full load.
    private func changes(from old: TablePlan, to new: TablePlan) throws(UnsupportedRuleset) -> Batch? {
        var batch = Batch(table: PacketPath.table, sets: new.sets.values)
        for (name, set) in new.sets {
            if let before = old.sets[name], before.declaration != set.declaration { return nil }
        }
        func sorted(_ names: some Sequence<String>) -> [String] { names.sorted() }
        for name in sorted(new.counters.keys.filter { old.counters[$0] == nil }) {
            if let counter = new.counters[name] { try batch.add(counter) }
        }
        for name in sorted(new.chains.keys.filter { old.chains[$0] == nil }) { try batch.add(Chain(name)) }
        for name in sorted(new.sets.keys) {
            guard let set = new.sets[name] else { continue }
            guard old.sets[name] != nil else {
                try batch.add(set)
                for (_, elements) in new.parts[name] ?? [:] { try batch.add(elements, to: set) }
                continue
            }
            let (gone, come) = Self.difference(old, new, of: name)
            if !gone.isEmpty { try batch.delete(gone, from: set) }
            if !come.isEmpty { try batch.add(come, to: set) }
        }
        for name in sorted(new.chains.keys.filter { old.chains[$0]?.rules != new.chains[$0]?.rules }) {
            guard let chain = new.chains[name] else { continue }
            batch.flushChain(name)
            for rule in chain.rules { try batch.add(rule, to: name) }
        }
        let goneChains = sorted(old.chains.keys.filter { new.chains[$0] == nil })
        for name in goneChains { batch.flushChain(name) }
        for name in sorted(old.sets.keys.filter { new.sets[$0] == nil }) { batch.deleteSet(name) }
        for name in goneChains { batch.deleteChain(name) }
        for name in sorted(old.counters.keys.filter { new.counters[$0] == nil }) { batch.deleteCounter(name) }
        return batch
    }
}
