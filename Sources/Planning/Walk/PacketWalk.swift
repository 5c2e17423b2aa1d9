import PluginKit

/// A statement that a supposed packet can meet: what each file of a statement in this folder is for.
protocol WalkedStatement: StatementType {
    /// It may end the packet's way, or lead it elsewhere.
    var decides: Bool { get }

    func meet(_ walk: inout PacketWalk) -> PacketWalk.Outcome

    /// Forgets what the statement writes: it is unknown whether the packet meets it.
    func meetPerhaps(_ walk: inout PacketWalk)
}

extension WalkedStatement {
    var decides: Bool { false }
    func meetPerhaps(_ walk: inout PacketWalk) {}
}

/// Where a packet would go through a table, by the same values that are sent to the kernel: which rules it meets, and what
/// becomes of it.
public struct PacketWalk {
    public struct Step: Sendable, Hashable {
        public var chain: String
        /// The rule's origin; nil for the end of a chain.
        public var origin: String?
        public var verdict: String
        /// What became of the connection's addresses; nil for nothing.
        public var translation: Translation?
    }

    /// What became of it.
    public enum End: String, Sendable { case accept, drop, reject }

    /// What a statement makes of a packet.
    enum Outcome {
        /// The rule goes on; the words are for the verdict that it comes to.
        case next(_ words: String? = nil)
        /// The rule does not fit.
        case leave
        /// It is unknown whether the rule fits.
        case unknown
        case verdict(Verdict, _ words: String? = nil)
        /// The connection's addresses are translated, and the packet is accepted.
        case translated(Translation)
        /// The packet's way ends here.
        case end(End, _ words: String)
    }

    /// What only the kernel knows.
    public struct Kernel {
        /// Members that packets have put into sets, as nft writes them.
        public var members: (NamedSet) -> Set<String>
        /// Whether an address is one of the box's own.
        public var isLocal: (IPAddress) -> Bool
        /// Whether a route to an address leads out by a link.
        public var leads: (IPAddress, String) -> Bool

        public init(
            members: @escaping (NamedSet) -> Set<String>, isLocal: @escaping (IPAddress) -> Bool,
            leads: @escaping (IPAddress, String) -> Bool
        ) {
            (self.members, self.isLocal, self.leads) = (members, isLocal, leads)
        }
    }

    let table: TablePlan
    let indexes: SetIndexes
    let kernel: Kernel
    public internal(set) var packet: SupposedPacket
    /// As it came.
    let first: SupposedPacket
    public private(set) var steps: [Step] = []
    /// Rules about something of which nothing is known: taken as if they didn't fit.
    public private(set) var unknown: [String] = []
    var isTranslated = false
    private var depth = 0
    /// Counters that the packet was counted with.
    public internal(set) var counted: [String] = []

    /// - Parameter indexes: of the same table, where many packets go through it.
    public init(
        _ packet: SupposedPacket, through table: TablePlan, _ kernel: Kernel, indexes: SetIndexes? = nil
    ) {
        (self.packet, first, self.table, self.kernel) = (packet, packet, table, kernel)
        self.indexes = indexes ?? SetIndexes(table)
    }

    /// Its destination is another one from here on.
    public mutating func translate(to destination: IPAddress, port: Int?) {
        (packet.destination, packet.port, isTranslated) = (destination, port, true)
    }

    public mutating func leave(by output: String?) { packet.output = output }

    /// Goes through the base chains of a hook, in the order of their priorities.
    ///
    /// - Parameter kind: of the chains; nil for all.
    public mutating func pass(_ point: Hook.Point, kind: Hook.Kind? = nil) -> End {
        let chains = table.chains.values.filter { chain in
            guard let hook = chain.hook, hook.point == point, hook.device ?? packet.input == packet.input else {
                return false
            }
            return kind == nil || hook.kind == kind
        }.sorted { ($0.hook?.priority ?? 0) < ($1.hook?.priority ?? 0) }
        for chain in chains {
            switch walk(chain) {
            case .some(let end) where end != .accept: return end
            case .some: continue
            case nil:
                guard chain.hook?.policy == .drop else { continue }
                steps.append(Step(chain: chain.name, origin: nil, verdict: "drop"))
                return .drop
            }
        }
        return .accept
    }

    /// Nil when the chain's end is reached, or left by `return`.
    private mutating func walk(_ chain: Chain) -> End? {
        depth += 1
        defer { depth -= 1 }
        // As many jumps as the kernel allows.
        guard depth <= 16 else { return nil }
        for rule in chain.rules {
            guard let outcome = walk(rule, of: chain) else { continue }
            switch outcome {
            case .end(let end, let words):
                steps.append(Step(chain: chain.name, origin: origin(of: rule), verdict: words))
                return end
            case .translated(let translation):
                steps.append(
                    Step(
                        chain: chain.name, origin: origin(of: rule), verdict: "\(translation)",
                        translation: translation))
                return .accept
            case .verdict(let verdict, let words):
                if let target = verdict.target.flatMap({ table.chains[$0] }) {
                    if let end = walk(target) { return end }
                    if case .goto = verdict { return nil }
                    continue
                }
                switch verdict {
                case .accept, .drop:
                    steps.append(
                        Step(
                            chain: chain.name, origin: origin(of: rule),
                            verdict: words ?? (verdict == .drop ? "drop" : "accept")))
                    return verdict == .drop ? .drop : .accept
                case .return: return nil
                default: continue
                }
            case .next, .leave, .unknown: continue
            }
        }
        return nil
    }

    /// - Returns: where the rule leads; nil where it lets the packet go on.
    private mutating func walk(_ rule: Rule, of chain: Chain) -> Outcome? {
        var words: String?
        for (place, statement) in rule.statements.enumerated() {
            let outcome: Outcome =
                switch statement {
                case .match(let left, let comparison, let right):
                    switch fits(left, comparison, right) {
                    case true?: .next()
                    case false?: .leave
                    case nil: .unknown
                    }
                case .verdict(let verdict): .verdict(verdict)
                case .verdictMap(let key, let entries):
                    if isKnown(key) {
                        entries.first { holds(key, $0.key) == true }.map { .verdict($0.verdict) } ?? .leave
                    } else {
                        .unknown
                    }
                case .namedVerdictMap(let key, let name):
                    if isKnown(key, in: name) {
                        element(key, name)?.verdict.map { .verdict($0) } ?? .leave
                    } else {
                        .unknown
                    }
                case .counter(let name): count(name)
                case .other(let other): (other.value as? any WalkedStatement)?.meet(&self) ?? .unknown
                }
            switch outcome {
            case .next(let found): words = found ?? words
            case .leave: return nil
            case .unknown:
                passPerhaps(rule.statements[place...], rule.comment ?? chain.name)
                return nil
            case .verdict(let verdict, let found): return .verdict(verdict, found ?? words)
            case .translated, .end: return outcome
            }
        }
        return nil
    }

    /// The rest of a rule of which it is unknown whether it fits. The rule is taken as one that does not fit, and what
    /// it writes becomes unknown.
    private mutating func passPerhaps(_ rest: ArraySlice<Statement>, _ rule: String) {
        if writesPerhaps(rest) { unknown.append(rule) }
    }

    /// - Returns: whether the statements may end the packet's way, or lead it elsewhere.
    private mutating func writesPerhaps(_ rest: ArraySlice<Statement>) -> Bool {
        var decides = false
        for statement in rest {
            switch statement {
            case .match, .counter: break
            case .verdict(.jump(let target)) where depth < 16:
                // A chain that only writes comes back.
                depth += 1
                for rule in table.chains[target]?.rules ?? [] {
                    decides = writesPerhaps(rule.statements[...]) || decides
                }
                depth -= 1
            case .verdict, .verdictMap, .namedVerdictMap: decides = true
            case .other(let other):
                guard let walked = other.value as? any WalkedStatement else {
                    decides = true
                    continue
                }
                walked.meetPerhaps(&self)
                decides = decides || walked.decides
            }
        }
        return decides
    }

    /// Notes a rule whose effect only the kernel, or another program, can tell.
    public mutating func cannotTell(_ what: String) { unknown.append(what) }

    private mutating func count(_ counter: String) -> Outcome {
        counted.append(counter)
        return .next()
    }

    /// A rule that is compiled from many says nothing of whose it is; the counter before it does.
    private func origin(of rule: Rule) -> String? {
        guard rule.isCompiled, let counter = counted.last else { return rule.comment }
        return table.counters[counter]?.comment ?? rule.comment
    }
}
