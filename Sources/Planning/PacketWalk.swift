import PluginKit

/// A packet that nobody has sent: the first one of a connection.
public struct SupposedPacket: Sendable, Hashable {
    /// The interface that it comes by.
    public var input: String
    /// The one that it leaves by; nil before that is known, and for one to the box itself.
    public var output: String?
    public var source: IPAddress
    public var destination: IPAddress
    /// `tcp`, `udp`, `icmp` or `icmpv6`.
    public var transport: String
    public var sourcePort: Int?
    public var port: Int?
    public var mark = 0
    /// Of the frame that brings it; nil while nobody knows.
    public var mac: MACAddress?

    public init(input: String, source: IPAddress, destination: IPAddress, transport: String, port: Int?) {
        (self.input, self.source, self.destination, self.transport) = (input, source, destination, transport)
        (self.port, sourcePort) = (port, port == nil ? nil : 49_152)
    }

    /// What may be said of a packet's transport.
    public static let transports = ["tcp", "udp", "icmp", "icmpv6"]

    var protocolNumber: Int { DataType.protocolNumber.symbols[transport].map(Int.init) ?? Int(transport) ?? 255 }
}

/// Where a packet would go through a table, by the same values that are sent to the kernel: which rules it meets, and what
/// becomes of it.
public struct PacketWalk {
    public struct Step: Sendable, Hashable {
        public var chain: String
        /// The rule's origin; nil for the end of a chain.
        public var origin: String?
        public var verdict: String
    }

    /// What became of it.
    public enum End: String, Sendable { case accept, drop, reject }

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
    public private(set) var packet: SupposedPacket
    /// As it came.
    let first: SupposedPacket
    public private(set) var steps: [Step] = []
    /// Rules about something of which nothing is known: taken as if they didn't fit.
    public private(set) var unknown: [String] = []
    var isTranslated = false
    private var depth = 0
    /// Counters that the packet was counted with.
    public private(set) var counted: [String] = []

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
        rules: for rule in chain.rules {
            var verdict: Verdict?
            var words: String?
            statements: for statement in rule.statements {
                switch statement {
                case .match(let left, let comparison, let right):
                    guard let fits = fits(left, comparison, right) else {
                        unknown.append(rule.comment ?? chain.name)
                        continue rules
                    }
                    if !fits { continue rules }
                case .verdict(let found): verdict = found
                case .verdictMap(let key, let entries):
                    verdict = entries.first { holds(key, $0.key) == true }?.verdict
                case .namedVerdictMap(let key, let name):
                    verdict = element(key, name)?.verdict
                case .reject:
                    steps.append(Step(chain: chain.name, origin: origin(of: rule), verdict: "reject"))
                    return .reject
                case .masquerade: (verdict, words) = (.accept, "masquerade")
                case .nat(let kind, _, .map(let key, let name), _, _):
                    guard case .data(let target)? = element(key, name)?.value else { continue rules }
                    (verdict, words) = (.accept, translate(kind, by: target))
                case .nat(let kind, _, let address, let port, let flags):
                    (verdict, words) = (.accept, translate(kind, address, port, flags))
                case .setMark(.meta(.mark), .number(let mark)): packet.mark = mark
                // A lone packet is beyond no limit of its source.
                case .element(_, _, _, _, .some): continue rules
                case .synproxy: verdict = .accept
                case .limit(let limit): if limit.isOver { continue rules }
                case .counterMap(let key, let name):
                    guard case .counter(let counter)? = element(key, name)?.value else { continue rules }
                    counted.append(counter)
                case .counter(let name): counted.append(name)
                case .log, .setMark, .notrack, .element, .mapElement, .helper, .flow, .trace: break
                }
                if verdict != nil { break statements }
            }
            guard let verdict else { continue }
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
        }
        return nil
    }

    /// A rule that is compiled from many says nothing of whose it is; the counter before it does.
    private func origin(of rule: Rule) -> String? {
        guard rule.isCompiled, let counter = counted.last else { return rule.comment }
        return table.counters[counter]?.comment ?? rule.comment
    }

    /// By what a map holds: an address, and a port, or ranges of them, of which the kernel takes one.
    private mutating func translate(_ kind: Statement.NATKind, by target: Expression) -> String {
        var parts = [target]
        if case .concatenation(let items) = target { parts = items }
        var words = translate(kind, parts.first, parts.count > 1 ? parts[1] : nil, [])
        if parts.count > 1, case .range(.number(let first), .number(let last)) = parts[1] {
            words += " port \(first)-\(last)"
        }
        return words
    }

    private mutating func translate(
        _ kind: Statement.NATKind, _ address: Expression?, _ port: Expression?, _ flags: Set<Statement.NATFlag>
    ) -> String {
        var words = kind.rawValue
        // Which of a pool it becomes is the kernel's to say.
        if case .range(.text(let first), .text(let last))? = address { words += " to \(first)-\(last)" }
        if flags.contains(.netmap), case .prefix(let text, let length)? = address, let start = IPAddress(text),
            let network = IPPrefix(start, length: length)
        {
            let old = kind == .dnat ? packet.destination : packet.source
            let host = network.last.value ^ network.address.value
            let new = IPAddress(start.family, value: network.address.value | old.value & host)
            words += " to \(new)"
            if kind == .dnat { packet.destination = new } else { packet.source = new }
        }
        if case .text(let text)? = address, let address = IPAddress(text) {
            words += " to \(address)"
            if kind == .dnat { packet.destination = address } else { packet.source = address }
        }
        if case .number(let number)? = port {
            words += " port \(number)"
            if kind == .dnat { packet.port = number } else { packet.sourcePort = number }
        }
        isTranslated = isTranslated || kind == .dnat
        return words
    }
}
