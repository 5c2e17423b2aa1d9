import Netlink
import PluginKit

extension RouteResource: DrivenResource { typealias ItsDriver = RouteDriver }

/// Routes of any table. The engine's own carry its protocol number (RTPROT_*); others are not touched.
struct RouteDriver: Driver {
    static let watch = DriftWatch.netlink

    private let socket: RouteSocket

    init(_ context: DriverContext) { socket = context.socket }

    func steps(_ change: KindChange<RouteResource>) -> [Step] {
        [Step(.routes) { try self.converge(change.wanted) }]
    }

    /// The wanted routes in the kernel's form; the link is nil where the kernel finds it by the gateway.
    static func routes(_ wanted: [RouteResource], _ links: [Link]) throws -> [Route] {
        try wanted.map { route in
            Route(
                to: route.destination, via: route.gateway, link: try route.link.map { try links.index(of: $0) },
                table: route.table, metric: route.metric, origin: LinkDriver.origin)
        }
    }

    /// - Parameter present: all routes, or those with the engine's protocol number.
    static func difference(wanted: [Route], present: [Route]) -> Difference<Route, Route> {
        let own = present.filter { $0.origin == LinkDriver.origin }
        let (wantedByPlace, ownByPlace) = (
            Dictionary(wanted.map { ($0.place, $0) }) { $1 }, Dictionary(own.map { ($0.place, $0) }) { $1 }
        )
        return Difference(
            // A route that changes is replaced where it is (NLM_F_REPLACE).
            extra: own.filter { wantedByPlace[$0.place] == nil },
            missing: wanted.filter { ownByPlace[$0.place]?.satisfies($0) != true })
    }

    private func difference(_ wanted: [RouteResource]) throws -> Difference<Route, Route> {
        Self.difference(wanted: try Self.routes(wanted, try socket.links()), present: try socket.routes())
    }

    func drift(from wanted: [RouteResource]) throws -> [String] {
        let difference = try difference(wanted)
        return difference.extra.map { "route to \($0.destination) is not planned" }
            + difference.missing.map { "route to \($0.destination) is missing" }
    }

    private func converge(_ wanted: [RouteResource]) throws {
        for route in try difference(wanted).extra {
            try tolerant { () throws(NetlinkError) in try socket.delete(route) }
        }
        // A gateway outside of the box's networks needs a route of its own, which goes first.
        for route in try difference(wanted).missing.sorted(by: { $0.gateway == nil && $1.gateway != nil }) {
            try socket.add(route)
        }
    }
}

extension Route {
    /// What the kernel identifies a route by.
    fileprivate struct Place: Hashable {
        var destination: IPPrefix
        var table: Int
        var metric: Int
    }

    fileprivate var place: Place {
        // IP6_RT_PRIO_USER (linux/ipv6_route.h) takes the place of 0.
        Place(
            destination: destination, table: table, metric: metric == 0 && destination.family == .ipv6 ? 1024 : metric)
    }

    /// Whether the kernel's route is what a wanted one asks for.
    fileprivate func satisfies(_ wanted: Route) -> Bool {
        gateway == wanted.gateway && kind == wanted.kind && (wanted.link == nil || link == wanted.link)
    }
}
