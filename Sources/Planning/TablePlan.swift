import PluginKit

/// What the table shall hold: plugins' objects, and the base chains, each only if it has rules or
/// drops by its policy. Their rules call plugins' chains at the stages.
public struct TablePlan: Sendable {
    /// By name.
    public private(set) var chains: [String: Chain] = [:]
    public private(set) var sets: [String: NamedSet] = [:]
    public private(set) var counters: [String: NamedCounter] = [:]
    public private(set) var helpers: [String: NamedHelper] = [:]
    public private(set) var flowtable: Flowtable?
    /// Elements of large sets, by the set's name and the part's, beside what stands in the set itself.
    public private(set) var parts: [String: [String: [SetElement]]] = [:]
    /// Of sets that are filled from beside the plan.
    public private(set) var feeds: [FeedResource] = []

    public init(_ objects: [NftablesResource] = []) {
        let saved = objects.lazy.compactMap { if case .savedMarks(let bits) = $0 { bits } else { nil } }.first
        var uses: [Stage: [(order: Int, chain: String)]] = [:]
        var devices: Set<String> = []
        for object in objects {
            switch object {
            case .chain(let chain, let use):
                chains[chain.name] = chain
                // One without rules needs no call.
                if let use, !chain.rules.isEmpty {
                    uses[use.stage, default: []].append((use.order, chain.name))
                    if use.stage == .earlyDrop { devices.formUnion(use.devices) }
                }
            case .set(let set): sets[set.name] = set
            case .elements(let part): parts[part.set, default: [:]][part.part] = part.elements
            case .counter(let counter): counters[counter.name] = counter
            case .flowtable(let wanted): flowtable = wanted
            case .helper(let helper): helpers[helper.name] = helper
            case .feed(let feed): feeds.append(feed)
            case .savedMarks: break
            }
        }
        var calls: [Stage: [Rule]] = [:]
        for (stage, entries) in uses {
            let sorted = entries.sorted { ($0.order, $0.chain) < ($1.order, $1.chain) }
            calls[stage] = sorted.map { entry in
                Rule([.verdict(.jump(entry.chain))], comment: "\(stage.rawValue), order \(entry.order)")
            }
        }
        for chain in PacketPath.chains(calling: calls, saving: saved ?? 0) { chains[chain.name] = chain }
        for device in devices {
            let chain = PacketPath.ingress(of: device, calling: calls[.earlyDrop] ?? [])
            chains[chain.name] = chain
        }
        if let flowtable { chains["forward"].map { chains["forward"] = PacketPath.offloading($0, to: flowtable) } }
    }

    /// The same with base chains of translations that another table has, without their rules.
    public func keepingTranslations(of other: TablePlan) -> TablePlan {
        var plan = self
        for name in PacketPath.translating where plan.chains[name] == nil {
            plan.chains[name] = other.chains[name].map { Chain(name, hook: $0.hook) }
        }
        return plan
    }

    /// The same without chains of links that aren't there: the kernel takes none of them.
    public func withLinks(where isThere: (String) -> Bool) -> TablePlan {
        var left = withoutChains { $0.hook?.device.map { !isThere($0) } ?? false }
        left.flowtable?.devices.removeAll { !isThere($0) }
        return left
    }

    /// The same with another fast path, or without one.
    public func with(flowtable: Flowtable?) -> TablePlan {
        var plan = self
        plan.flowtable = flowtable
        if let chain = chains["forward"] { plan.chains["forward"] = PacketPath.offloading(chain, to: flowtable) }
        return plan
    }

    public func withoutChains(where isGone: (Chain) -> Bool) -> TablePlan {
        var left = self
        left.chains = chains.filter { !isGone($0.value) }
        return left
    }

    /// The same with what feeds have in its sets at a time, in seconds since 1970.
    public func filled(with fed: [String: FedSet], at now: Int) -> TablePlan {
        var filled = self
        for (name, set) in fed where sets[name] != nil {
            filled.parts[name, default: [:]]["fed"] = set.members.compactMap { member in
                member.until.map { $0 > now } ?? true ? SetElement(set.key(of: member)) : nil
            }
        }
        return filled
    }

    /// All elements of a set.
    public func elements(of name: String) -> [SetElement] {
        let own = sets[name]?.elements ?? []
        guard let more = parts[name] else { return own }
        return more.sorted { $0.key < $1.key }.reduce(into: own) { $0 += $1.value }
    }

    /// A set with all its elements.
    private func whole(_ set: NamedSet) -> NamedSet {
        var whole = set
        whole.elements = elements(of: set.name)
        return whole
    }

    /// For `nft -j -f`, and for people.
    public var contents: TableContents {
        TableContents(
            chains: chains.values.sorted { $0.name < $1.name },
            sets: sets.values.map(whole).sorted { $0.name < $1.name },
            counters: counters.values.sorted { $0.name < $1.name },
            helpers: helpers.values.sorted { $0.name < $1.name }, flowtable: flowtable)
    }

    /// A chain at a guard stage that could accept: what it accepts nobody behind it could drop any more.
    static func guardViolation(_ objects: [NftablesResource]) -> String? {
        var byName: [String: Chain] = [:]
        var guards: [(String, Stage)] = []
        for case .chain(let chain, let use) in objects {
            byName[chain.name] = chain
            if let use, [.inputGuard, .forwardGuard, .earlyDrop].contains(use.stage) {
                guards.append((chain.name, use.stage))
            }
        }
        var seen: Set<String> = []
        while let (name, stage) = guards.popLast() {
            guard seen.insert(name).inserted, let chain = byName[name] else { continue }
            for rule in chain.rules {
                for statement in rule.statements {
                    var verdicts: [Verdict] = []
                    if case .verdict(let verdict) = statement { verdicts = [verdict] }
                    if case .verdictMap(_, let entries) = statement { verdicts = entries.map(\.verdict) }
                    if case .namedVerdictMap = statement {
                        return
                            "chain \(name) uses a named verdict map at the stage \(stage.rawValue), which may only drop"
                    }
                    // A program may accept what it gets, and no later rule of the hook sees that packet.
                    if case .other(let other) = statement, other.value is Statement.Queue {
                        return "chain \(name) uses queue at the stage \(stage.rawValue), which may only drop"
                    }
                    if verdicts.contains(.accept) {
                        return "chain \(name) accepts at the stage \(stage.rawValue), which may only drop"
                    }
                    guards += verdicts.compactMap(\.target).map { ($0, stage) }
                }
            }
        }
        return nil
    }
}
