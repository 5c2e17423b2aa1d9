import Documents
import Files
import Netlink
import PluginKit

/// Observes the collections of facts that the engine fills itself. Only those that some plugin reads
/// are asked for: each costs requests to the kernel or to PID 1.
struct Observation {
    let places: Places
    let routes: RouteSocket

    /// - Parameters:
    ///   - wanted: collections.
    ///   - probes: the known states of probes.
    func facts(_ wanted: Set<String>, probes: [String: Facts.ProbeState]) throws -> Facts {
        var facts = Facts()
        if wanted.contains("ports") { facts.set(ports: try Ports.all(routes)) }
        if wanted.contains("consoles") { facts.set(consoles: Consoles(folder: places.devices).names) }
        if wanted.contains("unique-local"), let prefix = places.uniqueLocalPrefix { facts.set(uniqueLocal: prefix) }
        if wanted.contains("probes") { facts.set(probes) }
        if wanted.contains("services") { facts.collections["services"] = try services() }
        let needsLinks = !wanted.isDisjoint(with: ["links", "addresses", "routes"])
        let links = needsLinks ? try routes.links() : []
        if wanted.contains("links") { facts.collections["links"] = Self.links(links) }
        if wanted.contains("addresses") { facts.collections["addresses"] = try addresses(links) }
        if wanted.contains("routes") { facts.collections["routes"] = try foreignRoutes(links) }
        return Facts(facts.collections)
    }

    private static func links(_ links: [Link]) -> [String: JSON] {
        Dictionary(
            links.map { link in
                (
                    link.name,
                    .object([
                        "up": .boolean(link.isUp), "carrier": .boolean(link.hasCarrier),
                        "mtu": .integer(link.mtu), "mac": link.address.map { .text($0.description) },
                    ])
                )
            }
        ) { $1 }
    }

    /// By link: its addresses, those of the kernel and of others too.
    private func addresses(_ links: [Link]) throws -> [String: JSON] {
        let names = Dictionary(links.map { ($0.index, $0.name) }) { $1 }
        let byLink = Dictionary(grouping: try routes.addresses()) { names[$0.link] ?? "" }
        return byLink.filter { !$0.key.isEmpty }.mapValues { addresses in
            ["addresses": .texts(addresses.map(\.prefix.description).sorted())]
        }
    }

    /// Routes that others have put into the kernel, by the protocol's number
    /// (RTPROT_*, of which the kernel's own is 2): how many, and by which
    /// links the default routes lead.
    private func foreignRoutes(_ links: [Link]) throws -> [String: JSON] {
        let names = Dictionary(links.map { ($0.index, $0.name) }) { $1 }
        let foreign = try routes.routes().filter { ![LinkDriver.origin, 2].contains($0.origin) }
        return Dictionary(grouping: foreign) { "\($0.origin)" }.mapValues { routes in
            let defaults = routes.filter { $0.destination.length == 0 }
            return [
                "routes": .integer(routes.count),
                "defaults": .texts(Set(defaults.compactMap { $0.link.flatMap { names[$0] } }).sorted()),
            ]
        }
    }

    /// By name: the state of each service. Without a PID 1 of ours there are none.
    private func services() throws -> [String: JSON] {
        guard FileSystem.exists(places.initSocket) else { return [:] }
        let all = try InitClient(socket: places.initSocket).services()
        return Dictionary(all.map { ($0.name, ["state": .text($0.state)]) }) { $1 }
    }
}
