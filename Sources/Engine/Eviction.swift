import Netlink
import Planning
import PluginKit

/// Connections that stand although the policy has changed: those that it allowed, and now forbids, are forgotten. Their next
/// packet is the first of a new connection, and asks for the rules.
///
/// What can't be told from a connection alone (its hardware addresses, its code points) is left as it is.
final class Eviction {
    private let old: Judge
    private let new: Judge
    private let socket: ConnectionSocket
    private var rest: ArraySlice<TrackedConnection>
    private let ways: Neighbourhood
    private(set) var forgotten = 0
    private(set) var looked = 0

    /// Nil where there is no connection to look at.
    init?(
        from old: @autoclosure () -> TablePlan, to new: @autoclosure () -> TablePlan, routes: RouteSocket,
        members: @escaping (NamedSet) -> Set<String>
    ) throws {
        socket = try ConnectionSocket()
        let all = try socket.connections()
        if all.isEmpty { return nil }
        rest = all[...]
        ways = Neighbourhood(routes)
        var known: [String: Set<String>] = [:]
        let kernel = PacketWalk.Kernel(
            members: { set in
                if let found = known[set.name] { return found }
                known[set.name] = members(set)
                return known[set.name] ?? []
            }, isLocal: { [ways] in ways.link(to: $0) == "lo" }, leads: { [ways] in ways.link(to: $0) == $1 })
        (self.old, self.new) = (Judge(old(), kernel), Judge(new(), kernel))
    }

    var isOver: Bool { rest.isEmpty }

    /// Looks at some more.
    func step(_ count: Int) {
        for connection in rest.prefix(count) where !connection.isExpected {
            looked += 1
            guard let input = ways.link(to: connection.original.source), input != "lo",
                let output = ways.link(to: connection.reply.source, mark: connection.mark)
            else { continue }
            let mac = ways.mac(to: connection.original.source)
            // What was never allowed is here by a way that nobody knows of.
            guard new.verdict(connection, input, output, mac) == false,
                old.verdict(connection, input, output, mac) == true
            else {
                continue
            }
            do {
                try socket.forget(connection)
                forgotten += 1
            } catch {
                Log.say("\(error)")
            }
        }
        rest = rest.dropFirst(count)
    }

    /// What a policy has to say of a connection.
    private struct Judge {
        private let table: TablePlan
        private let indexes: SetIndexes
        private let kernel: PacketWalk.Kernel

        init(_ table: TablePlan, _ kernel: PacketWalk.Kernel) {
            (self.table, indexes, self.kernel) = (table, SetIndexes(table), kernel)
        }

        /// Nil when nobody can tell.
        func verdict(_ connection: TrackedConnection, _ input: String, _ output: String, _ mac: MACAddress?) -> Bool? {
            let names = [1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"]
            var supposed = SupposedPacket(
                input: input, source: connection.original.source, destination: connection.original.destination,
                transport: names[connection.transport] ?? "\(connection.transport)", port: connection.original.port)
            (supposed.sourcePort, supposed.mac) = (connection.original.sourcePort, mac)
            supposed.connectionMark = Int(connection.mark)
            var walk = PacketWalk(supposed, through: table, kernel, indexes: indexes)
            var end = walk.pass(.ingress)
            if end == .accept { end = walk.pass(.prerouting, kind: .filter) }
            if end == .accept {
                // Its translation is settled, whatever one that begins now would have.
                if connection.isDestinationTranslated {
                    walk.translate(to: connection.reply.source, port: connection.reply.sourcePort)
                }
                walk.leave(by: output == "lo" ? nil : output)
                end = walk.pass(output == "lo" ? .input : .forward)
            }
            return walk.unknown.isEmpty ? end == .accept : nil
        }
    }
}

extension Engine {
    /// What the kernel has: the plan's, and of feeds.
    var standing: Standing { (nftables.table, nftables.loadedFed, now) }
    typealias Standing = (table: TablePlan, fed: [String: FedSet], at: Int)

    /// Connections that stand by this are looked at when there is nothing more urgent to do.
    func watchConnections(since old: Standing) {
        // What two changes in a row forbid was allowed before the first.
        if evictionBase == nil { evictionBase = old }
        eviction = nil
    }

    /// Some more of them.
    func followEviction() {
        guard let base = evictionBase else { return }
        do {
            if eviction == nil {
                eviction = try Eviction(
                    from: base.table.filled(with: base.fed, at: base.at),
                    to: standing.table.filled(with: standing.fed, at: standing.at),
                    routes: routes,
                    members: { set in Set(((try? self.nftables.members(of: set)) ?? []).map(\.key)) })
            }
            guard let eviction else { return evictionBase = nil }
            eviction.step(2000)
            guard eviction.isOver else { return }
            if eviction.forgotten > 0 {
                Log.say(
                    "\(eviction.forgotten) of \(eviction.looked) connections are forgotten: the policy forbids them now"
                )
            }
        } catch {
            Log.say("connections can't be looked at: \(error)")
        }
        (evictionBase, eviction) = (nil, nil)
    }

    /// Connections as commands of plugins have them; of one address, where it is given.
    func connections(of text: String?) throws -> JSON {
        var wanted: IPRange?
        if let text {
            guard let range = IPRange(text) else {
                throw EngineError("\"\(text)\" is no address and no network; 192.168.1.20 and 192.168.1.0/24 are")
            }
            wanted = range
        }
        func isIn(_ address: IPAddress) -> Bool {
            wanted.map { $0.family == address.family && $0.values.contains(address.value) } ?? true
        }
        func json(_ tuple: TrackedConnection.Tuple) -> JSON {
            .object([
                "source": .text(tuple.source.description), "destination": .text(tuple.destination.description),
                "source-port": tuple.sourcePort.map { .integer($0) }, "port": tuple.port.map { .integer($0) },
            ])
        }
        let found = try ConnectionSocket().connections().filter { connection in
            [connection.original, connection.reply].contains { isIn($0.source) || isIn($0.destination) }
        }
        return .list(
            found.prefix(Self.mostConnections).map { connection in
                .object([
                    "original": json(connection.original), "reply": json(connection.reply),
                    "protocol": .integer(connection.transport), "state": .text(connection.state),
                    "seconds": .integer(connection.timeout), "mark": .integer(Int(connection.mark)),
                ])
            })
    }

    /// What a plugin is given at most.
    private static let mostConnections = 20_000
}
