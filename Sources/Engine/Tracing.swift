import Documents
import Nftables
import Planning
import PluginKit

/// Follows packets of the box's own traffic through the table, by the kernel's word for each step.
final class Tracing {
    private struct Packet {
        var what: String
        var input: UInt32
        var output: UInt32
        var steps: [TraceEvent] = []
        var lastStep = 0
    }

    let user: String
    /// When it ends, in milliseconds of the kernel's time.
    private(set) var end: Int
    private let listener: TraceListener
    /// What the handles of steps mean.
    let rules: [UInt64: PlacedRule]
    private let most: Int
    private var packets: [UInt32: Packet] = [:]
    private var order: [UInt32] = []
    /// Nothing is marked any more.
    private(set) var isOver = false
    /// When it is forgotten though nobody asked for the rest.
    private static let patience = 5000

    /// When something is to be done, in milliseconds of the kernel's time.
    var due: Int { isOver ? end + Self.patience : end }

    func markOver() { (isOver, end) = (true, Uptime.milliseconds) }

    /// Has the end tried again a little later.
    func putOff() { end = Uptime.milliseconds + 1000 }

    /// How long a packet may stand still before its way is taken as gone, in milliseconds.
    private static let stillness = 400

    init(user: String, seconds: Int, packets most: Int, rules: [UInt64: PlacedRule]) throws {
        (self.user, self.most, self.rules) = (user, most, rules)
        end = Uptime.milliseconds + seconds * 1000
        listener = try TraceListener()
    }

    var descriptor: Int32 { listener.descriptor }

    func take() {
        for event in listener.events() {
            if packets[event.packet] == nil {
                // A packet whose beginning nobody saw says nothing.
                guard order.count < most, !event.network.isEmpty else { continue }
                order.append(event.packet)
                packets[event.packet] = Packet(
                    what: Self.words(event.network, event.transport), input: event.input, output: event.output)
                if order.count == most { end = min(end, Uptime.milliseconds + Self.stillness) }
            }
            packets[event.packet]?.steps.append(event)
            packets[event.packet]?.lastStep = Uptime.milliseconds
            if event.output != 0 { packets[event.packet]?.output = event.output }
        }
    }

    /// Those whose way is known to its end, once each.
    func finished(isOver: Bool) -> [(what: String, input: UInt32, output: UInt32, steps: [TraceEvent])] {
        let done = order.filter { id in
            guard let packet = packets[id], !packet.steps.isEmpty else { return false }
            return isOver || Uptime.milliseconds - packet.lastStep >= Self.stillness
        }
        return done.compactMap { id in
            guard let packet = packets[id] else { return nil }
            packets[id]?.steps = []
            return (packet.what, packet.input, packet.output, packet.steps)
        }
    }

    /// What its headers say of a packet.
    private struct Headers {
        let from: IPAddress
        let to: IPAddress
        let transport: UInt8
        var ports: (from: Int, to: Int)?

        init?(_ network: [UInt8], _ transport: [UInt8]) {
            let isIPv4 = network.first.map { $0 >> 4 } == 4
            let (start, length) = isIPv4 ? (12, 4) : (8, 16)
            guard network.count >= start + 2 * length, let from = IPAddress(network[start..<start + length]),
                let to = IPAddress(network[start + length..<start + 2 * length])
            else { return nil }
            (self.from, self.to, self.transport) = (from, to, isIPv4 ? network[9] : network[6])
            func port(_ place: Int) -> Int { Int(transport[place]) << 8 | Int(transport[place + 1]) }
            if [6, 17, 132].contains(self.transport), transport.count >= 4 { ports = (port(0), port(2)) }
        }

        var name: String {
            let names: [UInt8: String] = [1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"]
            return names[transport] ?? "\(transport)"
        }
    }

    /// A packet in the words of those who know it by its headers.
    private static func words(_ network: [UInt8], _ transport: [UInt8]) -> String {
        guard let headers = Headers(network, transport) else { return "a packet" }
        let name = headers.name.first?.isNumber == true ? "protocol \(headers.name)" : headers.name
        guard let ports = headers.ports else { return "\(name) \(headers.from) > \(headers.to)" }
        func end(_ address: IPAddress, _ port: Int) -> String {
            address.family == .ipv4 ? "\(address):\(port)" : "[\(address)]:\(port)"
        }
        return "\(name) \(end(headers.from, ports.from)) > \(end(headers.to, ports.to))"
    }

    /// The same packet as one that is supposed to come by an interface.
    static func supposed(_ first: TraceEvent?, by input: String?) -> SupposedPacket? {
        guard let first, let input, let headers = Headers(first.network, first.transport) else { return nil }
        var packet = SupposedPacket(
            input: input, source: headers.from, destination: headers.to, transport: headers.name,
            port: headers.ports?.to)
        packet.sourcePort = headers.ports?.from
        return packet
    }
}

extension Engine {
    /// Begins to follow packets that a request describes.
    func trace(_ request: JSON, for user: String) throws -> JSON {
        if let tracing, !tracing.isOver { throw EngineError("\(tracing.user) is tracing packets already") }
        func number(_ key: String, _ range: ClosedRange<Int>) throws -> Int? {
            guard let value = request[key] else { return nil }
            guard let number = value.integer, range.contains(number) else {
                throw EngineError("\(key) is a number from \(range.lowerBound) to \(range.upperBound)")
            }
            return number
        }
        var matches: [Statement] = []
        func match(_ left: Selector, _ right: Expression) { matches.append(.match(.selector(left), .equal, right)) }
        if let text = request["interface"]?.text { match(.meta(.interface), .text(text)) }
        for (key, field) in [("from", "saddr"), ("to", "daddr")] {
            guard let text = request[key]?.text else { continue }
            guard let prefix = IPPrefix(text) ?? IPAddress(text).flatMap({ IPPrefix($0, length: $0.bytes.count * 8) })
            else {
                throw EngineError("\(key): \"\(text)\" is neither an address nor a network")
            }
            match(
                .payload(prefix.family == .ipv4 ? .ip : .ip6, field),
                prefix.length == prefix.address.bytes.count * 8
                    ? .text(prefix.address.description) : .prefix(prefix.network.address.description, prefix.length))
        }
        let name = request["protocol"]?.text
        if let name {
            guard SupposedPacket.transports.contains(name) else {
                throw EngineError.unknown("protocol", name, SupposedPacket.transports)
            }
            match(.meta(.l4proto), .text(name == "icmpv6" ? "ipv6-icmp" : name))
        }
        if let port = try number("port", 1...65535) {
            guard name == "tcp" || name == "udp" else { throw EngineError("a port wants the protocol tcp or udp") }
            match(.payload(.th, "dport"), .number(port))
        }
        let (seconds, packets) = (try number("seconds", 1...300) ?? 30, try number("packets", 1...100) ?? 5)
        // The kernel's words for a flood would be one themselves.
        let limit = Statement.limit(.init(rate: 50, per: .second, burst: packets))
        try nftables.startTrace([Rule(matches + [limit, .trace], comment: "traced for \(user)")])
        do {
            tracing = try Tracing(user: user, seconds: seconds, packets: packets, rules: nftables.rules())
        } catch {
            try? nftables.endTrace()
            throw error
        }
        Log.say("\(user) traces packets for \(seconds) s")
        return ["seconds": .integer(seconds)]
    }

    /// Takes what the kernel says, and ends what is over.
    func followTrace() {
        guard let tracing else { return }
        tracing.take()
        guard Uptime.milliseconds >= tracing.due else { return }
        // Whoever began it may be gone.
        if tracing.isOver { return self.tracing = nil }
        do {
            try nftables.endTrace()
            tracing.markOver()
        } catch {
            Log.say("tracing can't be ended, and that is tried again: \(error)")
            tracing.putOff()
        }
    }

    /// The packets whose way is known since the last answer.
    func traced() -> JSON {
        guard let tracing else { return ["packets": [], "over": true] }
        tracing.take()
        let names = Dictionary(((try? routes.links()) ?? []).map { (UInt32($0.index), $0.name) }) { $1 }
        let finished = tracing.finished(isOver: tracing.isOver)
        let table = finished.isEmpty ? TablePlan() : TablePlan(applied.plan.filter)
        let indexes = SetIndexes(table)
        let packets = finished.map { packet -> JSON in
            // A rule that stands for many is told apart by what the same packet meets in the plan.
            let isCompiled = packet.steps.contains { tracing.rules[$0.rule]?.comment.map(Rule.isCompiled) ?? false }
            let supposed = isCompiled ? Tracing.supposed(packet.steps.first, by: names[packet.input]) : nil
            let met = supposed.flatMap { try? walk($0, through: table, indexes).0.steps } ?? []
            return .object([
                "packet": .text(packet.what), "in": names[packet.input].map { .text($0) },
                "out": names[packet.output].map { .text($0) },
                "steps": .list(packet.steps.compactMap { json(of: $0, tracing.rules, met) }),
            ])
        }
        let isOver = tracing.isOver
        if isOver { self.tracing = nil }
        return ["packets": .list(packets), "over": .boolean(isOver)]
    }

    private func json(
        of step: TraceEvent, _ rules: [UInt64: PlacedRule], _ met: [PacketWalk.Step]
    ) -> JSON? {
        let isOurs = step.table == PacketPath.table
        if isOurs, FilterTable.traceChains.contains(step.chain) { return nil }
        var origin = isOurs && step.kind == .rule ? rules[step.rule]?.comment : nil
        if let compiled = origin, Rule.isCompiled(compiled) {
            origin = met.last { $0.chain == step.chain }?.origin ?? compiled
        }
        return .object([
            "chain": .text(isOurs ? step.chain : "\(step.table) \(step.chain)"), "verdict": .text(step.verdict),
            "kind": .text(step.kind == .rule ? "rule" : step.kind == .policy ? "policy" : "end"),
            "origin": origin.map { .text($0) }, "place": origin.flatMap { place(of: $0) }.map { .text($0) },
        ])
    }
}
