import Addresses
import CMnl
import Glibc

/// A route (RTM_NEWROUTE, rtnetlink(7), ip-route(8)).
public struct Route: Sendable, Hashable {
    /// RTN_* of linux/rtnetlink.h.
    public enum Kind: UInt8, Sendable, CaseIterable {
        case unicast = 1
        case local = 2
        case broadcast = 3
        case anycast = 4
        case multicast = 5
        /// Drops packets.
        case blackhole = 6
        /// Drops packets, and answers "host unreachable".
        case unreachable = 7
        /// Drops packets, and answers "administratively prohibited".
        case prohibit = 8
        /// Ends the look-up in this table; the next policy rule decides.
        case `throw` = 9

        /// True for the kinds whose packets leave by no link.
        var isWithoutPath: Bool { [.blackhole, .unreachable, .prohibit, .throw].contains(self) }
    }

    /// A network; the default route has length 0.
    public var destination: IPPrefix
    /// The gateway of a route with one path: of the destination's family, or IPv6 for IPv4
    /// (RTA_VIA). A link-local one needs `link`.
    public var gateway: IPAddress?
    /// The index of the link that packets of a route with one path leave by.
    ///
    /// Nil has the kernel find the link of the gateway. The dump names what it found, so a route to
    /// be compared with a dump states its link.
    public var link: Int?
    /// 1 through 2^32 - 1; 254 is the main table.
    public var table: Int
    /// The lower one wins; 0 in IPv6 is the kernel's 1024.
    public var metric: Int
    public var kind: Kind
    /// Which program made it: RTPROT_*.
    public var origin: UInt8
    /// The source address that the box itself uses (RTA_PREFSRC); the box must have it.
    public var source: IPAddress?
    /// The gateway is on the link although no connected network contains it (RTNH_F_ONLINK).
    public var isOnLink: Bool
    /// The paths of a route with several (RTA_MULTIPATH); `gateway` and `link` do not count then.
    /// In IPv6 each needs a gateway.
    public var nextHops: [NextHop]
    /// The largest packet in bytes (RTAX_MTU); nil for the link's.
    public var mtu: Int?
    /// RT_SCOPE_*; nil for the one that follows from kind and gateway, the usual one.
    public var scope: UInt8?
    /// The number of the next-hop object that it uses (RTA_NH_ID, ip-nexthop(8)): a route of
    /// another program, such as a routing daemon. Gateway and link are then those of the object.
    public var nextHopObject: Int?

    public init(
        to destination: IPPrefix, via gateway: IPAddress? = nil, link: Int? = nil, table: Int = 254, metric: Int = 0,
        kind: Kind = .unicast, origin: UInt8 = 0, source: IPAddress? = nil, onLink: Bool = false,
        nextHops: [NextHop] = [], mtu: Int? = nil
    ) {
        self.destination = destination
        self.gateway = gateway
        self.link = link
        self.table = table
        self.metric = metric
        self.kind = kind
        self.origin = origin
        self.source = source
        isOnLink = onLink
        self.nextHops = nextHops
        self.mtu = mtu
    }

    init?(_ answer: Answer) {
        guard answer.type == Int(RTM_NEWROUTE) else { return nil }
        let body = answer.body(rtmsg.self)
        // Exceptions that the kernel notes by itself (RTM_F_CLONED) belong to no table.
        guard body.rtm_flags & UInt32(RTM_F_CLONED) == 0, let kind = Kind(rawValue: body.rtm_type),
            [UInt8(AF_INET), UInt8(AF_INET6)].contains(body.rtm_family)
        else { return nil }
        let attributes = answer.attributes(behind: rtmsg.self)
        let zeros = [UInt8](repeating: 0, count: body.rtm_family == UInt8(AF_INET) ? 4 : 16)
        guard let address = attributes[Int(RTA_DST.rawValue)]?.address ?? IPAddress(zeros),
            let destination = IPPrefix(address, length: Int(body.rtm_dst_len))
        else { return nil }
        self.destination = destination
        self.kind = kind
        table = attributes[Int(RTA_TABLE.rawValue)]?.number ?? Int(body.rtm_table)
        metric = attributes[Int(RTA_PRIORITY.rawValue)]?.number ?? 0
        origin = body.rtm_protocol
        source = attributes[Int(RTA_PREFSRC.rawValue)]?.address
        nextHops = attributes[Int(RTA_MULTIPATH.rawValue)].map(NextHop.decode) ?? []
        // IPv6 has routes without a path leave by the loopback link.
        gateway = kind.isWithoutPath ? nil : NextHop.gateway(attributes)
        link = kind.isWithoutPath ? nil : attributes[Int(RTA_OIF.rawValue)]?.number
        isOnLink = nextHops.isEmpty && gateway != nil && body.rtm_flags & NextHop.onLink != 0
        mtu = attributes[Int(RTA_METRICS.rawValue)]?.nested.first { $0.0 == Int(RTAX_MTU) }?.1.number
        nextHopObject = attributes[Int(RTA_NH_ID.rawValue)]?.number
        scope = body.rtm_scope == usualScope ? nil : body.rtm_scope
    }

    /// The scope that the kernel demands for the kind, and for unicast the widest that the path
    /// allows (`fib_props` of net/ipv4/fib_semantics.c). IPv6 has no scopes.
    private var usualScope: UInt8 {
        guard destination.family == .ipv4 else { return UInt8(RT_SCOPE_UNIVERSE.rawValue) }
        switch kind {
        case .local: return UInt8(RT_SCOPE_HOST.rawValue)
        case .broadcast, .anycast, .multicast: return UInt8(RT_SCOPE_LINK.rawValue)
        case .unicast where gateway == nil && nextHops.isEmpty && nextHopObject == nil:
            return UInt8(RT_SCOPE_LINK.rawValue)
        default: return UInt8(RT_SCOPE_UNIVERSE.rawValue)
        }
    }

    /// The largest RTAX_MTU that the kernel keeps (`ip_metrics_convert` of net/ipv4/metrics.c).
    private static let largestMTU = 65535 - 15

    /// The route in the form in which the kernel reports it after it was added: equal to what
    /// `routes()` reads.
    ///
    /// - The destination has no bits beyond its length; table 0 is the main one.
    /// - In IPv6 metric 0 is 1024 (IP6_RT_PRIO_USER).
    /// - One path in `nextHops` is a plain route, without its weight; several are sorted.
    /// - Blackhole, unreachable, prohibit and throw routes have no path.
    /// - `onlink` needs a gateway. The usual scope is nil. An MTU of 0 is none.
    public var normalForm: Route {
        var route = self
        route.destination = destination.network
        if table == 0 { route.table = Int(RT_TABLE_MAIN.rawValue) }
        if metric == 0, destination.family == .ipv6 { route.metric = 1024 }
        if kind.isWithoutPath {
            route.gateway = nil
            route.link = nil
            route.nextHops = []
        } else if nextHops.count == 1 {
            route.gateway = nextHops[0].gateway
            route.link = nextHops[0].link
            route.isOnLink = nextHops[0].isOnLink
            route.nextHops = []
        } else if nextHops.count > 1 {
            route.gateway = nil
            route.link = nil
            route.nextHops = nextHops.map(\.normalForm).sorted {
                $0.sortingKey.lexicographicallyPrecedes($1.sortingKey)
            }
        }
        if route.gateway == nil { route.isOnLink = false }
        route.mtu = mtu.flatMap { $0 > 0 ? min($0, Self.largestMTU) : nil }
        if destination.family == .ipv6 || scope == route.usualScope { route.scope = nil }
        return route
    }

    func message(_ type: Int, flags: Int32) throws(NetlinkError) -> Message {
        let isDeletion = type == Int(RTM_DELROUTE)
        var body = rtmsg()
        body.rtm_family = UInt8(destination.family.number)
        body.rtm_dst_len = UInt8(destination.length)
        body.rtm_table = table < 256 ? UInt8(clamping: table) : 0
        body.rtm_protocol = origin
        body.rtm_type = kind.rawValue
        body.rtm_scope = scope ?? usualScope
        body.rtm_flags = isOnLink ? NextHop.onLink : 0
        let message = Message(type, flags: flags, body, about: isDeletion ? "the removal of \(subject)" : subject)
        if destination.length > 0 { try message.put(Int(RTA_DST.rawValue), destination.address.bytes) }
        if let nextHopObject {
            try message.put(Int(RTA_NH_ID.rawValue), UInt32(clamping: nextHopObject))
        } else if nextHops.isEmpty {
            if let gateway { try message.put([NextHop.attribute(gateway, family: destination.family)]) }
            if let link { try message.put(Int(RTA_OIF.rawValue), UInt32(clamping: link)) }
        } else if !isDeletion {
            // A deletion without paths takes them all; with paths IPv4 compares their order.
            try message.put(
                Int(RTA_MULTIPATH.rawValue), NextHop.encode(nextHops, family: destination.family))
        }
        if let source { try message.put(Int(RTA_PREFSRC.rawValue), source.bytes) }
        if let mtu {
            try message.nest(Int(RTA_METRICS.rawValue)) { () throws(NetlinkError) in
                try message.put(Int(RTAX_MTU), UInt32(clamping: mtu))
            }
        }
        if metric > 0 { try message.put(Int(RTA_PRIORITY.rawValue), UInt32(clamping: metric)) }
        try message.put(Int(RTA_TABLE.rawValue), UInt32(clamping: table))
        return message
    }

    private var subject: String {
        "the route to \(destination)" + (gateway.map { " via \($0)" } ?? "") + (link.map { " on link \($0)" } ?? "")
    }
}

extension NextHop {
    /// An order of its own: the kernel's depends on the order in which paths came and went.
    fileprivate var sortingKey: [Int] { [link ?? 0] + (gateway?.bytes.map(Int.init) ?? []) + [weight] }
}

extension RouteSocket {
    /// Routes of both families.
    ///
    /// The kernel filters (NETLINK_GET_STRICT_CHK), so a box with a full table of a routing daemon
    /// does not send all of it. Several paths are sorted as in `Route.normalForm`.
    ///
    /// - Parameters:
    ///   - origin: only those of a program, by its RTPROT_* number; nil for all.
    ///   - table: only those of a table; nil for all. A table that does not exist is empty.
    public func routes(origin: UInt8? = nil, table: Int? = nil) throws(NetlinkError) -> [Route] {
        var routes: [Route] = []
        for family in IPAddress.Family.allCases {
            var body = rtmsg()
            body.rtm_family = UInt8(family.number)
            body.rtm_protocol = origin ?? 0
            let message = Message(Int(RTM_GETROUTE), body, about: "the routes")
            if let table { try message.put(Int(RTA_TABLE.rawValue), UInt32(clamping: table)) }
            do {
                routes += try dump(message) { answer -> Route? in
                    guard let route = Route(answer), route.destination.family == family,
                        origin == nil || route.origin == origin, table == nil || route.table == table
                    else { return nil }
                    return route.nextHops.isEmpty ? route : route.normalForm
                }
            } catch {
                guard table != nil, error.code == ENOENT else { throw error }
            }
        }
        return routes
    }

    /// Adds a route; one to the same destination with the same metric in the same table is
    /// replaced.
    public func add(_ route: Route) throws(NetlinkError) {
        try change(route.normalForm.message(Int(RTM_NEWROUTE), flags: NLM_F_CREATE | NLM_F_REPLACE))
    }

    /// Removes a route with all its paths. Throws ESRCH when there is none.
    ///
    /// IPv4 takes metric 0 for any metric when no route has it: a caller removes what a dump has
    /// shown.
    public func delete(_ route: Route) throws(NetlinkError) {
        try change(route.normalForm.message(Int(RTM_DELROUTE), flags: 0))
    }
}
