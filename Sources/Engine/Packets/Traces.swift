import Documents
import Glibc
import Netlink
import Nftables
import Planning
import PluginKit

/// Packets that an operator follows, one operator at a time.
final class Traces {
    private let routes: RouteSocket
    private let nftables: FilterTable
    private let applier: PlanApplier
    private let explainer: PacketExplainer
    private var tracing: Tracing?

    init(routes: RouteSocket, nftables: FilterTable, applier: PlanApplier, explainer: PacketExplainer) {
        (self.routes, self.nftables) = (routes, nftables)
        (self.applier, self.explainer) = (applier, explainer)
    }

    var polled: [pollfd] { tracing.map { [pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0)] } ?? [] }
    var due: Int? { tracing?.due }

    /// Begins to follow packets that a request describes.
    func begin(_ request: JSON, for user: String) throws -> JSON {
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
    func step() {
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
    func next() -> JSON {
        guard let tracing else { return ["packets": [], "over": true] }
        tracing.take()
        let names = Dictionary(((try? routes.links()) ?? []).map { (UInt32($0.index), $0.name) }) { $1 }
        let finished = tracing.finished(isOver: tracing.isOver)
        let table = finished.isEmpty ? TablePlan() : TablePlan(applier.applied.plan.filter)
        let indexes = SetIndexes(table)
        let packets = finished.map { packet -> JSON in
            // A rule that stands for many is told apart by what the same packet meets in the plan.
            let isCompiled = packet.steps.contains { tracing.rules[$0.rule]?.comment.map(Rule.isCompiled) ?? false }
            let supposed = isCompiled ? Tracing.supposed(packet.steps.first, by: names[packet.input]) : nil
            let met = supposed.flatMap { try? explainer.walk($0, through: table, indexes).0.steps } ?? []
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
            "origin": origin.map { .text($0) }, "place": origin.flatMap { explainer.place(of: $0) }.map { .text($0) },
        ])
    }
}
