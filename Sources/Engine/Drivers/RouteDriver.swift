import Netlink
import PluginKit

/// Routes of any table: what is ours carries our number; what others put there is left alone.
struct RouteDriver {
    let socket: RouteSocket

    private func route(_ resource: RouteResource, _ links: [Link], _ addresses: [InterfaceAddress]) throws -> Route {
        var link = try resource.link.map { try links.index(of: $0) }
        if link == nil, let gateway = resource.gateway {
            // The kernel finds it itself; found here, what it says later can be compared.
            link = addresses.first { $0.prefix.contains(gateway) }?.link
        }
        return Route(
            to: resource.destination, via: resource.gateway, link: link, table: resource.table,
            metric: resource.metric, origin: LinkDriver.origin)
    }

    private func difference(from wanted: [RouteResource]) throws -> (extra: [Route], missing: [Route]) {
        let (links, addresses) = (try socket.links(), try socket.addresses())
        let routes = try wanted.map { try route($0, links, addresses) }
        let present = try socket.routes()
        return (
            present.filter { route in
                route.origin == LinkDriver.origin && !routes.contains { $0.isInPlace(of: route) }
            },
            routes.filter { route in !present.contains { $0.isSame(as: route) } }
        )
    }

    func drift(from wanted: [RouteResource]) throws -> [String] {
        let difference = try difference(from: wanted)
        return difference.extra.map { "route to \($0.destination) is too many" }
            + difference.missing.map { "route to \($0.destination) is gone" }
    }

    /// Has the tables hold these routes, and none of ours beside them.
    func bring(_ wanted: [RouteResource]) throws {
        for route in try difference(from: wanted).extra {
            try tolerant { () throws(NetlinkError) in try socket.delete(route) }
        }
        // A gateway beyond the networks of the box is reached by a route of its own, which goes first.
        for route in try difference(from: wanted).missing.sorted(by: { $0.gateway == nil && $1.gateway != nil }) {
            try socket.add(route)
        }
    }
}

extension Route {
    /// The metric as the kernel has it.
    private var kernelMetric: Int { metric == 0 && destination.family == .ipv6 ? 1024 : metric }

    /// True when the kernel takes this one for the other: both can't be there.
    fileprivate func isInPlace(of other: Route) -> Bool {
        destination == other.destination && table == other.table && kernelMetric == other.kernelMetric
    }

    fileprivate func isSame(as other: Route) -> Bool {
        isInPlace(of: other) && gateway == other.gateway && link == other.link && origin == other.origin
            && kind == other.kind
    }
}
