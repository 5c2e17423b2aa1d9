import Glibc
import Netlink
import PluginKit

/// Addresses and routes: what is ours carries our number; what others put there is left alone.
struct AddressDriver {
    let socket: RouteSocket

    private func index(of name: String, in links: [Link]) throws -> Int {
        guard let link = links.first(where: { $0.name == name }) else {
            throw EngineError("there is no link \(name)")
        }
        return link.index
    }

    /// What is gone already, by the kernel's own doing, needs no second end: with a link its routes go, with an address the
    /// others of its network.
    private func delete(_ body: () throws(NetlinkError) -> Void) throws {
        do {
            try body()
        } catch {
            guard [EADDRNOTAVAIL, ESRCH, ENODEV].contains(error.code) else { throw error }
        }
    }

    /// Has links carry these addresses, and none of ours beside them.
    func bring(_ wanted: [(link: String, prefix: IPPrefix)]) throws {
        let links = try socket.links()
        let addresses = try wanted.map {
            InterfaceAddress(link: try index(of: $0.link, in: links), prefix: $0.prefix, origin: LinkDriver.origin)
        }
        for address in try socket.addresses() where address.origin == LinkDriver.origin && !addresses.contains(address)
        {
            try delete { () throws(NetlinkError) in try socket.delete(address) }
        }
        let present = try socket.addresses()
        for address in addresses where !present.contains(address) { try socket.add(address) }
    }

    // MARK: - Routes

    private func route(_ resource: RouteResource, _ links: [Link], _ addresses: [InterfaceAddress]) throws -> Route {
        var link = try resource.link.map { try index(of: $0, in: links) }
        if link == nil, let gateway = resource.gateway {
            // The kernel finds it itself; found here, what it says later can be compared.
            link = addresses.first { $0.prefix.contains(gateway) }?.link
        }
        return Route(
            to: resource.destination, via: resource.gateway, link: link, metric: resource.metric,
            origin: LinkDriver.origin)
    }

    /// Has the main table hold these routes, and none of ours beside them.
    func bring(_ wanted: [RouteResource]) throws {
        let (links, addresses) = (try socket.links(), try socket.addresses())
        let routes = try wanted.map { try route($0, links, addresses) }
        for route in try socket.routes()
        where route.origin == LinkDriver.origin && !routes.contains(where: { $0.isInPlace(of: route) }) {
            try delete { () throws(NetlinkError) in try socket.delete(route) }
        }
        let present = try socket.routes()
        // A gateway beyond the networks of the box is reached by a route of its own, which goes first.
        for route in routes.sorted(by: { $0.gateway == nil && $1.gateway != nil }) where !present.contains(route) {
            try socket.add(route)
        }
    }
}

extension Route {
    /// True when the kernel takes this one for the other: both can't be there.
    fileprivate func isInPlace(of other: Route) -> Bool {
        func metric(_ route: Route) -> Int { route.metric == 0 && destination.family == .ipv6 ? 1024 : route.metric }
        return destination == other.destination && table == other.table && metric(self) == metric(other)
    }
}
