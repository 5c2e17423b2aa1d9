import Netlink
import Planning
import PluginKit

/// Paths and hardware addresses as the kernel has them. The answers of the last addresses are kept.
final class Neighbourhood {
    private let routes: RouteSocket
    private lazy var links = Dictionary(((try? routes.links()) ?? []).map { ($0.index, $0.name) }) { $1 }
    private lazy var macs = Dictionary(
        ((try? routes.neighbours()) ?? []).compactMap { neighbour in neighbour.mac.map { (neighbour.address, $0) } }
    ) { $1 }
    private struct Question: Hashable {
        let address: IPAddress
        let mark: UInt32
    }

    private var known: [Question: RouteSocket.Way?] = [:]
    /// Answers that are kept: a million connections may each have an address of their own.
    static let mostKnown = 16_384
    var knownCount: Int { known.count }

    init(_ routes: RouteSocket) { self.routes = routes }

    private func way(to address: IPAddress, mark: UInt32) -> RouteSocket.Way? {
        let question = Question(address: address, mark: mark)
        if let found = known[question] { return found }
        let way = try? routes.way(to: address, mark: mark)
        if known.count >= Self.mostKnown { known.removeAll(keepingCapacity: true) }
        known[question] = .some(way)
        return way
    }

    private func name(of way: RouteSocket.Way?) -> String? {
        switch way {
        case .here?: "lo"
        case .out(let index, _)?: links[index]
        case nil: nil
        }
    }

    /// The link that leads to an address, `lo` for one that is the box's own; nil when there is none.
    func link(to address: IPAddress, mark: UInt32 = 0) -> String? { name(of: way(to: address, mark: mark)) }

    /// The same for a packet, by where it came in, too. Bits of its mark that are unknown count as 0.
    func link(for packet: SupposedPacket) throws -> String? {
        name(
            of: try routes.way(
                to: packet.destination, from: packet.source, input: links.first { $0.value == packet.input }?.key,
                mark: packet.mark.value))
    }

    /// Whose frames bring an address's packets; nil while nobody knows.
    func mac(to address: IPAddress) -> MACAddress? {
        guard case .out(_, let gateway)? = way(to: address, mark: 0) else { return nil }
        return macs[gateway ?? address]
    }
}
