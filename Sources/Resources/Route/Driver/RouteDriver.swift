import Netlink
import Planning
import PluginKit

extension RouteResource: DrivenResource { typealias ItsDriver = RouteDriver }

/// Routes of any table. The engine's own carry its protocol number (RTPROT_*); others are not touched.
struct RouteDriver: Driver {
    static let watch = DriftWatch.netlink

    private let socket: RouteSocket

    init(_ context: DriverContext) { socket = context.socket }

    func steps(_ change: KindChange<RouteResource>) -> [Step] {
        [Step(.routes) { try self.converge(change.wanted, change.plans.new) }]
    }

    /// The wanted routes in the kernel's form. Those by a link that waits for a service are left out. A
    /// path without a link leaves by the link whose planned network has the gateway; its link is nil
    /// where none has, and the kernel decides.
    static func routes(
        _ wanted: [RouteResource], _ links: PlannedLinks, _ addresses: [AddressResource]
    ) throws -> [Route] {
        try wanted.compactMap { route in
            var hops: [NextHop] = []
            for path in route.paths {
                let name =
                    path.link
                    ?? path.gateway.flatMap { gateway in
                        addresses.first { $0.peer == gateway || $0.peer == nil && $0.prefix.contains(gateway) }?.link
                    }
                let link = try name.map { try links.index(of: $0) }
                if case .some(nil) = link { return nil }
                hops.append(
                    NextHop(via: path.gateway, link: link ?? nil, weight: path.weight, onLink: path.isOnLink))
            }
            return Route(
                to: route.destination, table: route.table.number, metric: route.metric, kind: kind(route.action),
                origin: LinkDriver.origin, source: route.source, nextHops: hops, mtu: route.mtu
            ).normalForm
        }
    }

    private static func kind(_ action: RouteResource.Action) -> Route.Kind {
        switch action {
        case .forward: .unicast
        case .blackhole: .blackhole
        case .unreachable: .unreachable
        case .prohibit: .prohibit
        }
    }

    /// - Parameter present: the routes with the engine's protocol number.
    static func difference(wanted: [Route], present: [Route]) -> Difference<Route, Route> {
        let wantedByPlace = Dictionary(wanted.map { ($0.place, $0) }) { $1 }
        let presentByPlace = Dictionary(present.map { ($0.place, $0) }) { $1 }
        return Difference(
            // A route that changes is replaced where it is (NLM_F_REPLACE).
            extra: present.filter { wantedByPlace[$0.place] == nil },
            missing: wanted.filter { presentByPlace[$0.place]?.satisfies($0) != true })
    }

    private func difference(_ wanted: [RouteResource], _ plan: Plan) throws -> Difference<Route, Route> {
        let links = try PlannedLinks(plan, present: try socket.links())
        return Self.difference(
            wanted: try Self.routes(wanted, links, plan.values(AddressResource.self)),
            present: try socket.routes(origin: LinkDriver.origin))
    }

    func drift(from plan: Plan) throws -> [String] {
        let difference = try difference(plan.values(RouteResource.self), plan)
        return difference.extra.map { "route to \($0.destination) is not planned" }
            + difference.missing.map { "route to \($0.destination) is missing" }
    }

    private func converge(_ wanted: [RouteResource], _ plan: Plan) throws {
        for route in try difference(wanted, plan).extra {
            try tolerant { () throws(NetlinkError) in try socket.delete(route) }
        }
        // A gateway outside of the box's networks needs a route of its own, which goes first.
        for route in try difference(wanted, plan).missing.sorted(by: { !$0.hasGateway && $1.hasGateway }) {
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

    fileprivate var place: Place { Place(destination: destination, table: table, metric: metric) }

    fileprivate var hasGateway: Bool { gateway != nil || !nextHops.isEmpty }

    /// Whether the kernel's route is what a wanted one asks for, which may leave links to the kernel.
    fileprivate func satisfies(_ wanted: Route) -> Bool {
        var present = self
        if wanted.nextHops.isEmpty, wanted.link == nil { present.link = nil }
        if wanted.nextHops.count == nextHops.count, wanted.nextHops.contains(where: { $0.link == nil }) {
            // The normal form sorts paths by their links: those without one take what is left.
            var rest = nextHops
            for hop in wanted.nextHops.sorted(by: { $0.link != nil && $1.link == nil }) {
                guard
                    let place = rest.firstIndex(where: { found in
                        var found = found
                        if hop.link == nil { found.link = nil }
                        return found == hop
                    })
                else { return false }
                rest.remove(at: place)
            }
            present.nextHops = wanted.nextHops
        }
        return present == wanted
    }
}
