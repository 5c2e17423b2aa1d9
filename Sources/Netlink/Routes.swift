import Addresses
import CMnl
import Glibc

/// A route.
public struct Route: Sendable, Hashable {
    public enum Kind: UInt8, Sendable, CaseIterable {
        case unicast = 1
        case local = 2
        case broadcast = 3
        case anycast = 4
        case multicast = 5
        case blackhole = 6
        case unreachable = 7
        case prohibit = 8
    }

    /// A network; the default route has length 0.
    public var destination: IPPrefix
    public var gateway: IPAddress?
    /// The index of the link that packets leave by.
    public var link: Int?
    public var table: Int
    /// The lower one wins; 0 in IPv6 is the kernel's 1024.
    public var metric: Int
    public var kind: Kind
    /// Who made it: RTPROT_*.
    public var origin: UInt8
    /// The source address that the box itself uses.
    public var source: IPAddress?

    public init(
        to destination: IPPrefix, via gateway: IPAddress? = nil, link: Int? = nil, table: Int = 254, metric: Int = 0,
        kind: Kind = .unicast, origin: UInt8 = 0, source: IPAddress? = nil
    ) {
        self.destination = destination
        self.gateway = gateway
        self.link = link
        self.table = table
        self.metric = metric
        self.kind = kind
        self.origin = origin
        self.source = source
    }

    init?(_ answer: Answer) {
        guard answer.type == Int(RTM_NEWROUTE) else { return nil }
        let body = answer.body(rtmsg.self)
        // Exceptions that the kernel notes by itself (RTM_F_CLONED) are no routes of anybody.
        guard body.rtm_flags & 0x200 == 0, let kind = Kind(rawValue: body.rtm_type),
            [UInt8(AF_INET), UInt8(AF_INET6)].contains(body.rtm_family)
        else { return nil }
        let attributes = answer.attributes(behind: rtmsg.self)
        let zeros = [UInt8](repeating: 0, count: body.rtm_family == UInt8(AF_INET) ? 4 : 16)
        guard let address = attributes[Int(RTA_DST.rawValue)]?.address ?? IPAddress(zeros),
            let destination = IPPrefix(address, length: Int(body.rtm_dst_len))
        else { return nil }
        self.destination = destination
        gateway = attributes[Int(RTA_GATEWAY.rawValue)]?.address
        link = attributes[Int(RTA_OIF.rawValue)]?.number
        table = attributes[Int(RTA_TABLE.rawValue)]?.number ?? Int(body.rtm_table)
        metric = attributes[Int(RTA_PRIORITY.rawValue)]?.number ?? 0
        self.kind = kind
        origin = body.rtm_protocol
        source = attributes[Int(RTA_PREFSRC.rawValue)]?.address
    }

    func message(_ type: Int, flags: Int32) -> Message {
        var body = rtmsg()
        body.rtm_family = UInt8(destination.family.number)
        body.rtm_dst_len = UInt8(destination.length)
        body.rtm_table = table < 256 ? UInt8(table) : 0
        body.rtm_protocol = origin
        body.rtm_type = kind.rawValue
        // What has no gateway is on the link itself.
        body.rtm_scope =
            kind == .unicast && gateway == nil && destination.family == .ipv4
            ? UInt8(RT_SCOPE_LINK.rawValue) : UInt8(RT_SCOPE_UNIVERSE.rawValue)
        let message = Message(type, flags: flags, body)
        if destination.length > 0 { message.put(Int(RTA_DST.rawValue), destination.address.bytes) }
        if let gateway { message.put(Int(RTA_GATEWAY.rawValue), gateway.bytes) }
        if let link { message.put(Int(RTA_OIF.rawValue), UInt32(clamping: link)) }
        if let source { message.put(Int(RTA_PREFSRC.rawValue), source.bytes) }
        if metric > 0 { message.put(Int(RTA_PRIORITY.rawValue), UInt32(clamping: metric)) }
        message.put(Int(RTA_TABLE.rawValue), UInt32(clamping: table))
        return message
    }

    private var subject: String {
        "the route to \(destination)" + (gateway.map { " via \($0)" } ?? "") + (link.map { " on link \($0)" } ?? "")
    }

    fileprivate func add(_ socket: RouteSocket) throws(NetlinkError) {
        try socket.change(message(Int(RTM_NEWROUTE), flags: NLM_F_CREATE | NLM_F_REPLACE), subject)
    }

    fileprivate func delete(_ socket: RouteSocket) throws(NetlinkError) {
        try socket.change(message(Int(RTM_DELROUTE), flags: 0), "the end of \(subject)")
    }
}

extension RouteSocket {
    /// The routes of all tables.
    public func routes() throws(NetlinkError) -> [Route] {
        try dump({ Message(Int(RTM_GETROUTE), rtmsg()) }, "the routes") { Route($0) }
    }

    /// Adds a route; one to the same destination with the same metric in the same table is replaced.
    public func add(_ route: Route) throws(NetlinkError) { try route.add(self) }

    public func delete(_ route: Route) throws(NetlinkError) { try route.delete(self) }
}

extension RouteSocket {
    /// Where the kernel would send a packet.
    public enum Way: Sendable, Hashable {
        /// To the box itself.
        case here
        /// Out by a link, to a gateway where there is one.
        case out(Int, via: IPAddress?)
    }

    /// - Parameter input: the index of the link that it came by; nil for one of the box itself.
    /// - Returns: nil when no route leads there.
    public func way(
        to destination: IPAddress, from source: IPAddress? = nil, input: Int? = nil, mark: UInt32 = 0
    ) throws(NetlinkError) -> Way? {
        var body = rtmsg()
        body.rtm_family = UInt8(destination.family.number)
        body.rtm_dst_len = UInt8(8 * destination.family.length)
        if source != nil { body.rtm_src_len = body.rtm_dst_len }
        let message = Message(Int(RTM_GETROUTE), body)
        message.put(Int(RTA_DST.rawValue), destination.bytes)
        if let source { message.put(Int(RTA_SRC.rawValue), source.bytes) }
        if let input { message.put(Int(RTA_IIF.rawValue), UInt32(input)) }
        if mark != 0 { message.put(Int(RTA_MARK.rawValue), mark) }
        return try ask(
            message, "the way to \(destination)", none: [ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL, EXDEV, EPERM]
        ) { answer in
            guard answer.type == Int(RTM_NEWROUTE) else { return nil }
            let kind = answer.body(rtmsg.self).rtm_type
            if kind == Route.Kind.local.rawValue || kind == Route.Kind.broadcast.rawValue { return Way.here }
            guard kind == Route.Kind.unicast.rawValue else { return nil }
            let attributes = answer.attributes(behind: rtmsg.self)
            return (attributes[Int(RTA_OIF.rawValue)]?.number).map {
                .out($0, via: attributes[Int(RTA_GATEWAY.rawValue)]?.address)
            }
        }
    }
}
