import Documents
import Netlink
import Nftables
import Planning
import PluginKit

/// Rules of the packet filter, in the words of the document that they come from.
final class PacketExplainer {
    private let planner: Planner
    private let routes: RouteSocket
    private let configuration: Configuration
    private let applier: PlanApplier
    private let feeds: Feeds
    private let clock: WallClock

    init(
        planner: Planner, routes: RouteSocket, configuration: Configuration, applier: PlanApplier, feeds: Feeds,
        clock: WallClock
    ) {
        (self.planner, self.routes, self.configuration) = (planner, routes, configuration)
        (self.applier, self.feeds, self.clock) = (applier, feeds, clock)
    }

    private var nftables: FilterTable { applier.nftables }
    private var site: Node { configuration.site }

    /// Every rule whose origin, chain or counter says `text`: where it stands in the packet path, and from which line.
    func explain(_ text: String) throws -> [JSON] {
        let table = TablePlan(applier.applied.plan.filter)
        let counted = try nftables.counters()
        let rules = table.contents.chains.flatMap { chain in
            chain.rules.compactMap { rule -> JSON? in
                let counter = rule.statements.lazy.compactMap { if case .counter(let name) = $0 { name } else { nil } }
                    .first
                let words = [rule.comment, chain.name, counter].compactMap { $0 }
                guard words.contains(where: { $0.place(of: text) != nil }) else { return nil }
                return .object([
                    "chain": .text(chain.name), "origin": .text(rule.comment ?? "the engine's own"), "rule": rule.json,
                    "place": place(of: rule.comment ?? "").map { .text($0) }, "counter": counter.map { .text($0) },
                    "packets": counter.flatMap { counted[$0] }.map { .integer(Int(clamping: $0.packets)) },
                ])
            }
        }
        return rules + elements(of: table, saying: text, counted)
    }

    /// The same of rules that are elements of maps: what they count with says whose they are.
    private func elements(of table: TablePlan, saying text: String, _ counted: [String: CounterValue]) -> [JSON] {
        table.sets.values.filter { $0.content == .counters }.sorted { $0.name < $1.name }.flatMap { set -> [JSON] in
            var keys: [String: [JSON]] = [:]
            for element in table.elements(of: set.name) {
                if case .counter(let name)? = element.value { keys[name, default: []].append(element.key.json) }
            }
            return keys.sorted { $0.key < $1.key }.compactMap { name, keys -> JSON? in
                let origin = table.counters[name]?.comment ?? name
                guard origin.place(of: text) != nil || name.place(of: text) != nil else { return nil }
                return .object([
                    "chain": .text(set.name), "origin": .text(origin), "rule": ["elements": .list(keys)],
                    "place": place(of: origin).map { .text($0) }, "counter": .text(name),
                    "packets": counted[name].map { .integer(Int(clamping: $0.packets)) },
                ])
            }
        }
    }

    /// Of a rule's origin, such as `firewall: rules[0] web`, the place in the document.
    func place(of origin: String) -> String? {
        guard let colon = origin.place(of: ": "),
            let plugin = planner.plugins.first(where: { $0.manifest.name == origin[..<colon.lowerBound] })
        else { return nil }
        let path = "\(plugin.manifest.key).\(origin[colon.upperBound...].prefix { $0 != " " })"
        guard let path = try? DocumentPath(path), let node = site.value(at: path) else { return nil }
        return "\(path), \(node.position)"
    }

    /// What would become of a packet, were it to come now: by the active plan, with the kernel's
    /// routes and what packets have put into sets.
    func explain(packet request: JSON) throws -> JSON {
        func address(_ key: String) throws -> IPAddress {
            guard let text = request[key]?.text, let address = IPAddress(text) else {
                throw EngineError("a packet wants an address as \(key)")
            }
            return address
        }
        let names = try routes.links().map(\.name)
        guard let input = request["interface"]?.text, names.contains(input) else {
            throw EngineError.unknown("interface", request["interface"]?.text ?? "", names)
        }
        let (source, destination) = (try address("from"), try address("to"))
        guard source.family == destination.family else { throw EngineError("\(source) and \(destination) never meet") }
        let (transport, port) = (request["protocol"]?.text ?? "tcp", request["port"]?.integer)
        guard SupposedPacket.transports.contains(transport) else {
            throw EngineError.unknown("protocol", transport, SupposedPacket.transports)
        }
        guard (transport == "tcp" || transport == "udp") == (port != nil),
            port.map({ (1...65535).contains($0) }) ?? true
        else { throw EngineError("tcp and udp want a port from 1 to 65535, icmp has none") }
        var supposed = SupposedPacket(
            input: input, source: source, destination: destination, transport: transport, port: port)
        supposed.mac = Neighbourhood(routes).mac(to: source)
        (supposed.connectionMark, supposed.zone) = (try connectionMark(of: request), try zone(of: request))
        let table = TablePlan(applier.applied.plan.filter)
        let (walk, end) = try walk(supposed, through: table.filled(with: feeds.files.content(of: table), at: clock.now))
        return answer(walk, end)
    }

    /// The way of a packet through the active plan, and what became of it, in words.
    ///
    /// - Parameter indexes: of the same table, where several packets go through it.
    func walk(
        _ supposed: SupposedPacket, through table: TablePlan, _ indexes: SetIndexes? = nil
    ) throws -> (PacketWalk, end: String) {
        let near = Neighbourhood(routes)
        let kernel = PacketWalk.Kernel(
            members: { set in Set(((try? self.nftables.members(of: set)) ?? []).map(\.key)) },
            isLocal: { near.link(to: $0) == "lo" }, leads: { near.link(to: $0) == $1 })
        var walk = PacketWalk(supposed, through: table, kernel, indexes: indexes)
        var end = walk.pass(.ingress)
        if end == .accept { end = walk.pass(.prerouting) }
        if end == .accept {
            if walk.packet.mark.number == nil { walk.cannotTell("the route: bits of the packet's mark are unknown") }
            guard let way = try near.link(for: walk.packet) else {
                return (walk, "no route leads to \(walk.packet.destination)")
            }
            walk.leave(by: way == "lo" ? nil : way)
            end = walk.pass(way == "lo" ? .input : .forward)
            if end == .accept, way != "lo" { end = walk.pass(.postrouting) }
        }
        let whereTo = walk.packet.output.map { "out \($0)" } ?? "to the box itself"
        return (walk, end == .accept ? "accepted, \(whereTo)" : end == .drop ? "dropped" : "rejected")
    }

    private func answer(_ walk: PacketWalk, _ end: String) -> JSON {
        [
            "steps": .list(
                walk.steps.map { step in
                    .object([
                        "chain": .text(step.chain), "verdict": .text(step.verdict),
                        "kind": step.origin == nil ? "policy" : "rule", "origin": step.origin.map { .text($0) },
                        "place": step.origin.flatMap { place(of: $0) }.map { .text($0) },
                    ])
                }), "end": .text(end), "unknown": .texts(walk.unknown),
            "marks": .object(fields(of: walk.packet.mark)),
            "connection-marks": .object(fields(of: walk.packet.connectionMark)),
            "zone": walk.packet.zone.map { .integer($0) } ?? .null,
        ]
    }

    // MARK: - Marks and zones

    /// The mark that a request supposes of the connection: 0, that of a new one, where it says nothing.
    private func connectionMark(of request: JSON) throws -> PartialMark {
        guard let wanted = request["marks"], wanted != .text("unknown") else {
            return request["marks"] == nil ? 0 : .unknown
        }
        let fields = planner.allocation.fields.filter(\.isSaved)
        var mark: UInt32 = 0
        for (name, value) in wanted.object ?? [:] {
            guard let field = fields.first(where: { $0.name == name }) else {
                throw EngineError.unknown("field of connections' marks", name, fields.map(\.name))
            }
            guard let placed = value.integer.flatMap(field.placed) else {
                throw EngineError("the mark field \(name) has the values 0 to \(field.values.upperBound)")
            }
            mark |= placed
        }
        return PartialMark(mark)
    }

    /// The zone that a request supposes: 0, that of packets without `ct zone`, where it says nothing.
    private func zone(of request: JSON) throws -> Int? {
        guard let wanted = request["zone"] else { return 0 }
        if wanted == .text("unknown") { return nil }
        guard let zone = wanted.integer, (0...Allocation.zoneNumbers.upperBound).contains(zone) else {
            throw EngineError("a zone is a number from 0 to \(Allocation.zoneNumbers.upperBound), or unknown")
        }
        return zone
    }

    /// The fields of a mark, by name; null for one that is unknown.
    private func fields(of mark: PartialMark) -> [String: JSON] {
        var fields: [String: JSON] = [:]
        for field in planner.allocation.fields {
            let isKnown = mark.known & field.mask == field.mask
            fields[field.name] = isKnown ? .integer(field.value(in: mark.value)) : .null
        }
        return fields
    }
}
