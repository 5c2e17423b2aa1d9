import Netlink
import Planning
import PluginKit

/// Compares what policies make of a tracked connection, by the path that its first packet would
/// take through each.
final class ConnectionJudge {
    private let present: PolicyWalk
    private let earlier: [PolicyWalk]
    /// Those of `earlier` with other rules than the present one: only they may have translated a
    /// connection otherwise. A change of a feed has none.
    private let changed: [PolicyWalk]
    private let paths: Neighbourhood

    /// - Parameters:
    ///   - routes: a socket of the box's network, for the links that addresses are behind.
    ///   - members: what packets have put into a set.
    init(
        present: Eviction.Policy, earlier: [Eviction.Policy], routes: RouteSocket,
        members: @escaping (NamedSet) -> Set<String>
    ) {
        let paths = Neighbourhood(routes)
        var known: [String: Set<String>] = [:]
        let kernel = PacketWalk.Kernel(
            members: { set in
                if let found = known[set.name] { return found }
                let found = members(set)
                known[set.name] = found
                return found
            }, isLocal: { paths.link(to: $0) == "lo" }, leads: { paths.link(to: $0) == $1 })
        self.paths = paths
        self.present = PolicyWalk(present, kernel, paths)
        let walks = earlier.map { PolicyWalk($0, kernel, paths) }
        changed = zip(earlier, walks).filter { !$0.0.hasRules(of: present) }.map(\.1)
        self.earlier = walks
    }

    /// Whether an earlier policy accepts a connection that the present one does not accept, or would
    /// translate otherwise. False where a rule depends on what is unknown of a connection, such as its
    /// packets' code points.
    ///
    /// A connection that no known policy accepts stays: rules that the walk does not know have let
    /// it in.
    func isObsolete(_ connection: TrackedConnection) -> Bool {
        guard let input = paths.link(to: connection.original.source), input != "lo" else { return false }
        let mac = paths.mac(to: connection.original.source)
        let now = present.fate(of: connection, input, mac, withTranslation: !changed.isEmpty)
        switch now.isAccepted {
        case nil: return false
        case false?: return earlier.contains { $0.fate(of: connection, input, mac).isAccepted == true }
        case true?:
            guard now.translation?.explains(connection) == false else { return false }
            return changed.contains { policy in
                let before = policy.fate(of: connection, input, mac, withTranslation: true)
                return before.isAccepted == true && before.translation?.explains(connection) == true
            }
        }
    }

    /// The path through one policy. A policy that is never asked is never filled with its feeds'
    /// members.
    private final class PolicyWalk {
        private static let names = [1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"]

        private let kernel: PacketWalk.Kernel
        private let paths: Neighbourhood
        private let policy: Eviction.Policy
        private lazy var table = policy.table.filled(with: policy.fed, at: policy.time)
        private lazy var indexes = SetIndexes(table)

        init(_ policy: Eviction.Policy, _ kernel: PacketWalk.Kernel, _ paths: Neighbourhood) {
            self.policy = policy
            self.paths = paths
            self.kernel = kernel
        }

        /// What becomes of the first packet of a connection; nil for what is unknown.
        struct Fate {
            var isAccepted: Bool?
            var translation: Translation?
        }

        /// What rules do with the addresses of a connection: nil for nothing.
        struct Translation: Hashable {
            var destination: PacketWalk.Translation?
            var source: PacketWalk.Translation?

            /// Whether a connection has the addresses that the rules give it; true where they do
            /// not say which.
            func explains(_ connection: TrackedConnection) -> Bool {
                let (original, reply) = (connection.original, connection.reply)
                return Self.explains(destination, original.destination, reply.source, port: reply.sourcePort)
                    && Self.explains(source, original.source, reply.destination)
            }

            private static func explains(
                _ translation: PacketWalk.Translation?, _ before: IPAddress, _ after: IPAddress, port: Int? = nil
            ) -> Bool {
                translation?.explains(before, becoming: after, port: port) ?? (before == after)
            }
        }

        /// - Parameter withTranslation: asks the chains of translations, too.
        func fate(
            of connection: TrackedConnection, _ input: String, _ mac: MACAddress?, withTranslation: Bool = false
        ) -> Fate {
            let tuple = connection.original
            var supposed = SupposedPacket(
                input: input, source: tuple.source, destination: tuple.destination,
                transport: Self.names[connection.transport] ?? "\(connection.transport)", port: tuple.port)
            supposed.sourcePort = tuple.sourcePort
            supposed.mac = mac
            supposed.connectionMark = PartialMark(connection.mark)
            supposed.zone = connection.zone
            var walk = PacketWalk(supposed, through: table, kernel, indexes: indexes)
            var end = walk.pass(.ingress)
            if end == .accept { end = walk.pass(.prerouting, kind: .filter) }
            guard end == .accept else { return Fate(isAccepted: walk.unknown.isEmpty ? false : nil) }
            let destination = withTranslation ? Self.translation(walk, at: .prerouting) : nil
            // The path is that of the connection's own translation.
            if connection.isDestinationTranslated {
                walk.translate(to: connection.reply.source, port: connection.reply.sourcePort)
            }
            // The packet's mark chooses its route. No connection has the field that does.
            guard let mark = walk.packet.mark.number,
                let output = paths.link(to: connection.reply.source, mark: mark)
            else { return Fate() }
            walk.leave(by: output == "lo" ? nil : output)
            end = walk.pass(output == "lo" ? .input : .forward)
            let isAccepted = walk.unknown.isEmpty ? end == .accept : nil
            guard let destination, destination.isKnown, isAccepted != nil else { return Fate(isAccepted: isAccepted) }
            // The kernel translates no source of what is for the box itself.
            let source = output == "lo" ? (made: nil, isKnown: true) : Self.translation(walk, at: .postrouting)
            let translation = Translation(destination: destination.made, source: source.made)
            return Fate(isAccepted: isAccepted, translation: source.isKnown ? translation : nil)
        }

        /// What the chains of translations do with a packet, which stays as it is.
        private static func translation(
            _ walk: PacketWalk, at point: Hook.Point
        ) -> (made: PacketWalk.Translation?, isKnown: Bool) {
            var trial = walk
            let before = walk.steps.count
            let end = trial.pass(point, kind: .nat)
            // An exception accepts the packet as it is, as the chain's end does.
            let made = trial.steps.dropFirst(before).last?.translation
            return (made, end == .accept && trial.unknown.count == walk.unknown.count)
        }
    }
}
