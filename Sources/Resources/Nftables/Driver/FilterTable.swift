import Glibc
import Nftables
import Planning
import PluginKit

/// Our table in the kernel: one transaction for each change, only what differs travels.
final class FilterTable {
    private var connection: Connection
    /// What the kernel holds, as far as it was ours to put there; nil before the first full load.
    private var loaded: TablePlan?
    /// What a predecessor has put there, as far as its word goes.
    var believed: TablePlan?
    /// Members of a plan's sets that come from beside it, and the time in seconds since 1970.
    var fed: (TablePlan) -> (sets: [String: FedSet], now: Int) = { _ in ([:], 0) }
    /// What the kernel has of them.
    private(set) var loadedFed: [String: FedSet] = [:]
    /// Why there is no better fast path.
    private var saidOfFastPath: String?
    /// Members that the last full load was made with.
    private var fullFed: [String: FedSet] = [:]
    /// Counts our changes.
    private var revision = 0
    /// The ruleset's, after our last change.
    private var generation: UInt32?
    /// Kernels before 6.9 can't keep a table without its owner: there it has none.
    private var flags: Batch.TableFlags = [.owner, .persist]

    /// What the kernel holds by our plan.
    var table: TablePlan { loaded ?? TablePlan() }

    init() throws(NftablesError) { connection = try Connection() }

    /// Whether our table is there, whoever put it there.
    var hasTable: Bool { get throws { try connection.observe(table: PacketPath.table).exists } }

    /// Takes the table over, or makes it, with what `plan` says: all chains are refilled in one transaction. Counters
    /// and sets that packets fill keep what they hold.
    func load(_ plan: TablePlan) throws {
        let plan = possible(plan)
        try committing(plan) {
            do {
                try retrying { try self.full(plan, flags: self.flags) }
            } catch let error as NftablesError
                where flags != [] && error.refusals.allSatisfy({ $0.subject.hasPrefix("table") })
            {
                flags = []
                try retrying { try self.full(plan, flags: []) }
            }
            loadedFed = fullFed
        }
    }

    /// Brings what comes from beside the plan into the kernel: members that came and went, nothing else.
    ///
    /// - Parameter again: has members that end by themselves sent anew: the clock was set.
    /// - Returns: whether there was anything to send.
    func refresh(again: Bool = false) throws -> Bool {
        guard let loaded else { return false }
        let (wanted, now) = fed(loaded)
        let changed = wanted.filter {
            loadedFed[$0.key]?.version != $0.value.version || again && $0.value.isPassing
        }.sorted { $0.key < $1.key }
        if changed.isEmpty { return false }
        func batch(from known: [String: FedSet]?) throws(UnsupportedRuleset) -> Batch {
            var batch = Batch(table: PacketPath.table)
            for (name, members) in changed {
                guard let set = loaded.sets[name] else { continue }
                if known == nil { batch.flushSet(name) }
                try batch.bring(set, from: known?[name], to: members, now: now)
            }
            return batch
        }
        let difference = try batch(from: again ? nil : loadedFed)
        do {
            if !difference.isEmpty { try own(difference) }
        } catch is NftablesError where !again {
            // A member that ended by itself in this very moment can't be taken out any more.
            try own(try batch(from: nil))
        }
        loadedFed = wanted
        return !difference.isEmpty
    }

    /// Chains of links that are there: others come with their links. Beside them what translates
    /// connections that have begun.
    private func possible(_ plan: TablePlan) -> TablePlan {
        let plan = plan.withLinks { if_nametoindex($0) != 0 }.keepingTranslations(of: table)
        return plan.flowtable.map { plan.with(flowtable: supported($0)) } ?? plan
    }

    /// What of a fast path this kernel and these links can; the kernel is asked, and nothing is changed by it. A link that can't
    /// must never cost routing.
    private func supported(_ wanted: Flowtable) -> Flowtable? {
        var (found, reasons): (Flowtable?, [String]) = (nil, [])
        for isHardware in wanted.isHardware ? [true, false] : [false] where found == nil && !wanted.devices.isEmpty {
            let candidate = Flowtable(wanted.name, devices: wanted.devices, isHardware: isHardware)
            var batch = Batch(table: "vcpe-trial")
            batch.addTable()
            do {
                try batch.add(candidate)
                try connection.check(batch)
                found = candidate
            } catch {
                reasons.append("\(isHardware ? "by hardware" : "by software"): \(error)")
            }
        }
        let said =
            reasons.isEmpty
            ? nil : "fast path \(found == nil ? "is not to be had" : "by software"), \(reasons.joined(separator: "; "))"
        if let said, said != saidOfFastPath { Log.say(said) }
        saidOfFastPath = said
        return found
    }

    /// With a link its chains went, and the kernel has told nobody.
    private func forgetLostChains() throws {
        guard let loaded, loaded.chains.values.contains(where: { $0.hook?.device != nil }) else { return }
        let seen = try connection.observe(table: PacketPath.table).chains
        let left = loaded.withoutChains { $0.hook?.device != nil && !seen.contains($0.name) }
        guard left.chains.count != loaded.chains.count else { return }
        (self.loaded, revision) = (left, revision + 1)
    }

    /// What a plan has for the links that are present: the fast path and the chains at their ingress.
    fileprivate struct LinkParts: Equatable {
        var flowtable: Flowtable?
        var chains: Set<String>

        init(_ plan: TablePlan) {
            flowtable = plan.flowtable
            chains = Set(plan.chains.values.filter { $0.hook?.device != nil }.map(\.name))
        }
    }

    /// A plan, and what leads to it from what the table holds.
    struct Change {
        let plan: TablePlan
        /// Nil when all of it must be sent.
        fileprivate var batch: Batch?
        /// Of which state that is true.
        fileprivate var revision: Int?
        fileprivate var fed: [String: FedSet] = [:]
        /// The part of the plan that depended on the links that were present.
        fileprivate var linkParts: LinkParts?
    }

    /// Has the kernel check a plan, and changes nothing.
    func check(_ plan: TablePlan) throws -> Change {
        try forgetLostChains()
        guard let loaded else { return Change(plan: plan) }
        let (possible, fed) = (possible(plan), fed(plan))
        let batch = try changes(from: loaded, to: possible, fed)
        try connection.check(try batch ?? full(possible, flags: flags))
        return Change(
            plan: plan, batch: batch, revision: revision, fed: fed.sets, linkParts: LinkParts(possible))
    }

    /// Brings the table from what it holds to a plan.
    func apply(_ change: Change) throws {
        try forgetLostChains()
        guard let loaded else { return try load(change.plan) }
        // Links may have come since.
        let plan = possible(change.plan)
        let isCurrent = change.revision == revision && change.linkParts == LinkParts(plan)
        let fed = isCurrent ? (change.fed, 0) : fed(plan)
        let batch = isCurrent ? change.batch : try changes(from: loaded, to: plan, fed)
        try committing(plan) {
            guard let batch else {
                try retrying { try self.full(plan, flags: self.flags) }
                loadedFed = fullFed
                return
            }
            // No other socket can change a table with an owner.
            try connection.commit(batch, expecting: flags.contains(.owner) ? nil : generation)
            loadedFed = fed.0
        } orReload: {
            try self.load(plan)
        }
    }

    /// Commits a change to `plan`. After a failure whose outcome is not known the next change sends
    /// everything: the kernel may have the old table or the new one.
    ///
    /// - Parameter reload: sends everything, where another program changed the table meanwhile.
    private func committing(
        _ plan: TablePlan, _ commit: () throws -> Void, orReload reload: (() throws -> Void)? = nil
    ) throws {
        let (before, beliefs) = (loaded, believed)
        (believed, loaded) = (loaded ?? believed, nil)
        do {
            try commit()
        } catch let error as NftablesError where error.isOutcomeKnown {
            (loaded, believed) = (before, beliefs)
            if error.isStale, let reload { return try reload() }
            throw error
        }
        let generation = try connection.generation()
        (loaded, self.generation, revision) = (plan, generation, revision + 1)
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

    /// Where packets that are to be traced are marked: right after connection tracking (priority
    /// -200). Packets that a link's ingress chain or prerouting-raw drops are not traced.
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

    /// Takes a member out of a set that packets fill.
    func forget(_ key: Expression, of set: NamedSet) throws {
        var batch = Batch(table: PacketPath.table)
        try batch.delete([SetElement(key)], from: set)
        try own(batch)
    }

    func counters() throws -> [String: CounterValue] { try connection.counters(table: PacketPath.table) }

    /// Commits what `make` gives for the generation that it saw; once more when somebody changed the ruleset meanwhile.
    ///
    /// Another's table may be that of an engine that was killed: a child of it that has not become its program yet has its socket, for a moment.
    private func retrying(_ make: () throws -> Batch) throws {
        var (changes, waits) = (0, 0)
        while true {
            let generation = try connection.generation()
            do {
                return try connection.commit(try make(), expecting: generation)
            } catch let error as NftablesError {
                if error.isStale, changes < 4 {
                    changes += 1
                } else if error.refusals.first?.code == EPERM, waits < 40 {
                    waits += 1
                    usleep(50_000)
                } else {
                    throw error
                }
            }
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
        let gone = seen.chains.subtracting(plan.chains.keys).subtracting(PacketPath.translating)
        for chain in gone.sorted() { batch.deleteChain(chain) }
        for flowtable in seen.flowtables.sorted() { batch.deleteFlowtable(flowtable) }
        if let flowtable = plan.flowtable { try batch.add(flowtable) }
        for counter in seen.counters.subtracting(plan.counters.keys).sorted() { batch.deleteCounter(counter) }
        for helper in seen.helpers.subtracting(plan.helpers.keys).sorted() { batch.deleteHelper(helper) }
        let contents = plan.contents
        for helper in contents.helpers where !seen.helpers.contains(helper.name) { try batch.add(helper) }
        for counter in contents.counters where !seen.counters.contains(counter.name) { try batch.add(counter) }
        for chain in contents.chains { try batch.add(Chain(chain.name, hook: chain.hook)) }
        let (fed, now) = fed(plan)
        fullFed = fed
        for set in contents.sets where kept[set.name] == nil {
            try batch.add(set)
            if let members = fed[set.name] { try batch.bring(set, from: nil, to: members, now: now) }
        }
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
    private func changes(
        from old: TablePlan, to new: TablePlan, _ fed: (sets: [String: FedSet], now: Int)
    ) throws(UnsupportedRuleset) -> Batch? {
        var batch = Batch(table: PacketPath.table, sets: new.sets.values)
        if old.flowtable != new.flowtable { return nil }
        for (name, set) in new.sets {
            if let before = old.sets[name], before.declaration != set.declaration { return nil }
        }
        func sorted(_ names: some Sequence<String>) -> [String] { names.sorted() }
        for name in sorted(new.helpers.keys.filter { old.helpers[$0] == nil }) {
            if let helper = new.helpers[name] { try batch.add(helper) }
        }
        for name in sorted(new.counters.keys.filter { old.counters[$0] == nil }) {
            if let counter = new.counters[name] { try batch.add(counter) }
        }
        for name in sorted(new.chains.keys.filter { old.chains[$0] == nil }) {
            try batch.add(Chain(name, hook: new.chains[name]?.hook))
        }
        for name in sorted(new.sets.keys) {
            guard let set = new.sets[name] else { continue }
            guard old.sets[name] != nil else {
                try batch.add(set)
                for (_, elements) in new.parts[name] ?? [:] { try batch.add(elements, to: set) }
                if let members = fed.sets[name] { try batch.bring(set, from: nil, to: members, now: fed.now) }
                continue
            }
            let (gone, come) = Self.difference(old, new, of: name)
            if !gone.isEmpty { try batch.delete(gone, from: set) }
            if !come.isEmpty { try batch.add(come, to: set) }
            if let members = fed.sets[name] {
                try batch.bring(set, from: loadedFed[name], to: members, now: fed.now)
            }
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
        for name in sorted(old.helpers.keys.filter { new.helpers[$0] == nil }) { batch.deleteHelper(name) }
        return batch
    }
}
