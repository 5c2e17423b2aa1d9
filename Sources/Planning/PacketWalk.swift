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

    private let table: TablePlan
    private let indexes: SetIndexes
    private let kernel: Kernel
    public private(set) var packet: SupposedPacket
    /// As it came.
    private let first: SupposedPacket
    public private(set) var steps: [Step] = []
    /// Rules about something of which nothing is known: taken as if they didn't fit.
    public private(set) var unknown: [String] = []
    private var isTranslated = false
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

    // MARK: - Matching

    /// The element of a map that a packet's key is.
    private func element(_ key: Expression, _ name: String) -> SetElement? {
        guard let values = values(key), !values.contains(.none), let index = indexes[name] else { return nil }
        return index.find(values) ?? index.rest.first { isIn(values, $0.key) }
    }

    enum Value: Hashable {
        case text(String)
        case number(Int)
        case address(IPAddress)
        /// The packet has no such thing.
        case none

        /// As nft writes it.
        var text: String {
            switch self {
            case .text(let text): text
            case .number(let number): "\(number)"
            case .address(let address): address.description
            case .none: ""
            }
        }
    }

    /// Nil for what nobody can know of a packet that was never sent.
    private func value(_ selector: Selector) -> Value? {
        let isIPv4 = packet.source.family == .ipv4
        switch selector {
        case .meta(.interface): return .text(packet.input)
        case .meta(.outputInterface): return packet.output.map { .text($0) } ?? Value.none
        case .meta(.l4proto): return .number(packet.protocolNumber)
        case .meta(.nfproto): return .text(isIPv4 ? "ipv4" : "ipv6")
        case .meta(.mark): return .number(packet.mark)
        case .meta(.pkttype): return .text("host")
        case .ct(.state): return .text("new")
        case .ct(.status): return isTranslated ? .text("dnat") : Value.none
        case .ct(.mark): return .number(0)
        case .ct(.direction): return .text("original")
        case .tuple(.original, .source4): return isIPv4 ? .address(first.source) : Value.none
        case .tuple(.original, .destination4): return isIPv4 ? .address(first.destination) : Value.none
        case .tuple(.original, .source6): return isIPv4 ? Value.none : .address(first.source)
        case .tuple(.original, .destination6): return isIPv4 ? Value.none : .address(first.destination)
        case .ct(.expiration), .tuple: return nil
        case .isFragment: return .number(0)
        case .payload(.ip, "frag-off"): return isIPv4 ? .number(0) : Value.none
        case .payload(let header, let field):
            switch (header, field) {
            case (.ether, "saddr"): return packet.mac.map { .text($0.description) }
            case (.ip, "saddr"), (.ip6, "saddr"):
                return (header == .ip) == isIPv4 ? .address(packet.source) : Value.none
            case (.ip, "daddr"), (.ip6, "daddr"):
                return (header == .ip) == isIPv4 ? .address(packet.destination) : Value.none
            case (.ip, "protocol"), (.ip6, "nexthdr"):
                return (header == .ip) == isIPv4 ? .number(packet.protocolNumber) : Value.none
            case (.tcp, _), (.udp, _), (.sctp, _), (.th, _):
                guard header == .th || header.rawValue == packet.transport else { return Value.none }
                if field == "dport" { return packet.port.map { .number($0) } ?? Value.none }
                if field == "sport" { return packet.sourcePort.map { .number($0) } ?? Value.none }
                return nil
            case (.icmp, "type"), (.icmpv6, "type"):
                return header.rawValue == packet.transport ? .text("echo-request") : Value.none
            default: return nil
            }
        case .fib(let flags, .kind) where flags == [.daddr]:
            return .text(kernel.isLocal(packet.destination) ? "local" : "unicast")
        case .fib(let flags, .interface) where flags == [.saddr, .iif]:
            return .number(kernel.leads(packet.source, packet.input) ? 1 : 0)
        case .fib: return nil
        }
    }

    private func fits(_ left: Expression, _ comparison: Statement.Comparison, _ right: Expression) -> Bool? {
        switch comparison {
        case .equal, .any: return holds(left, right)
        case .notEqual:
            // What a packet doesn't have is no other value of it either.
            guard values(left)?.contains(.none) != true else { return false }
            return holds(left, right).map { !$0 }
        default:
            guard let number = numeric(left), let other = numeric(right) else { return nil }
            switch comparison {
            case .less: return number < other
            case .lessOrEqual: return number <= other
            case .greater: return number > other
            default: return number >= other
            }
        }
    }

    private func numeric(_ expression: Expression) -> Int? {
        if case .number(let number) = expression { return number }
        guard case .number(let number)? = values(expression)?.first else { return nil }
        return number
    }

    /// The values that an expression selects, one for each part of a concatenation.
    private func values(_ expression: Expression) -> [Value]? {
        switch expression {
        case .selector(let selector): return value(selector).map { [$0] }
        case .concatenation(let parts):
            let all = parts.map { values($0)?.first }
            return all.contains { $0 == nil } ? nil : all.compactMap { $0 }
        case .and(.selector(.payload(.tcp, "flags")), let mask):
            guard packet.transport == "tcp" else { return [.none] }
            // It is the first of its connection.
            return Self.flags(mask).map { [.number($0 & (Self.flags(.text("syn")) ?? 0))] }
        case .and(let inner, .number(let mask)):
            guard let found = values(inner)?.first else { return nil }
            guard case .number(let number) = found else { return found == .none ? [found] : nil }
            return [.number(number & mask)]
        case .and(let inner, .text(let mask)):
            guard let found = values(inner)?.first, let mask = IPAddress(mask) else { return nil }
            guard case .address(let address) = found else { return [found] }
            return [.address(IPAddress(address.family, value: address.value & mask.value))]
        default: return nil
        }
    }

    /// Whether what `left` selects is `right`, or in it.
    private func holds(_ left: Expression, _ right: Expression) -> Bool? {
        // Nothing is in an empty set, whatever it is.
        if case .named(let name) = right, let set = table.sets[name], !set.flags.contains(.dynamic),
            indexes[name]?.isEmpty == true
        {
            return false
        }
        guard let values = values(left) else { return nil }
        // Flags together are one value, and none of several.
        if case .and(.selector(.payload(.tcp, "flags")), _) = left {
            guard case .number(let number)? = values.first else { return false }
            return Self.flags(right).map { $0 == number }
        }
        return isIn(values, right)
    }

    /// TCP's flags as a number.
    private static func flags(_ expression: Expression) -> Int? {
        switch expression {
        case .number(let number): number
        case .text(let name): DataType.tcpFlag.symbols[name].map(Int.init)
        case .list(let items):
            items.reduce(Int?.some(0)) { sum, item in
                guard let sum, let more = flags(item) else { return nil }
                return sum | more
            }
        default: nil
        }
    }

    private func isIn(_ values: [Value], _ right: Expression) -> Bool {
        if values.contains(.none) { return false }
        switch right {
        case .set(let items), .list(let items): return items.contains { isIn(values, $0) }
        case .named(let name):
            let name = name.hasPrefix("@") ? String(name.dropFirst()) : name
            guard let set = table.sets[name], let index = indexes[name] else { return false }
            if index.find(values) != nil || index.rest.contains(where: { isIn(values, $0.key) }) { return true }
            return set.flags.contains(.dynamic)
                && kernel.members(set).contains(values.map(\.text).joined(separator: " . "))
        case .concatenation(let parts):
            return parts.count == values.count && zip(values, parts).allSatisfy { isIn([$0], $1) }
        default: return values.count == 1 && isSame(values[0], right)
        }
    }

    private func isSame(_ value: Value, _ constant: Expression) -> Bool {
        switch (value, constant) {
        case (.text(let text), .text(let other)):
            if other.hasSuffix("*") { return text.hasPrefix(other.dropLast()) }
            return text == other
        case (.number(let number), .number(let other)): return number == other
        case (.number(let number), .text(let other)):
            return Int(other) == number || DataType.protocolNumber.symbols[other].map { Int($0) == number } ?? false
        case (.number(let number), .range(let low, let high)):
            guard case .number(let low) = low, case .number(let high) = high else { return false }
            return (low...max(low, high)).contains(number)
        case (.address(let address), .text(let other)): return IPAddress(other) == address
        case (.address(let address), .prefix(let network, let length)):
            guard let network = IPAddress(network), let prefix = IPPrefix(network, length: length) else { return false }
            return prefix.contains(address)
        case (.address(let address), .range(let low, let high)):
            guard case .text(let low) = low, case .text(let high) = high, let low = IPAddress(low),
                let high = IPAddress(high)
            else { return false }
            return !(address < low) && !(high < address)
        default: return false
        }
    }
}
