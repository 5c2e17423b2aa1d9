/// A route.
public struct RouteResource: ResourceType {
    public static let kind = "route"

    /// The kernel's main table (RT_TABLE_MAIN, rtnetlink(7)).
    public static let mainTable: AllocatedNumber = 254
    /// Tables that every plugin may look up routes in: RT_TABLE_DEFAULT, main and local.
    static let kernelTables: Set<Int> = [253, 254, 255]

    /// What happens to packets.
    public enum Action: String, Sendable, CaseIterable {
        /// They leave by a path.
        case forward
        /// They are dropped.
        case blackhole
        /// They are dropped, and the sender gets "host unreachable".
        case unreachable
        /// They are dropped, and the sender gets "administratively prohibited".
        case prohibit
    }

    /// Where packets leave to.
    public struct Path: Sendable, Hashable {
        /// Nil for a network without a gateway.
        public var gateway: IPAddress?
        /// The link that packets leave by; nil where the kernel finds it by the gateway.
        public var link: String?
        /// The gateway is on the link although none of its networks has it (RTNH_F_ONLINK).
        public var isOnLink: Bool
        /// The share of the flows, of several paths: 1 to 256.
        public var weight: Int

        public init(via gateway: IPAddress? = nil, link: String? = nil, isOnLink: Bool = false, weight: Int = 1) {
            self.gateway = gateway
            self.link = link
            self.isOnLink = isOnLink
            self.weight = weight
        }

        init(_ line: ResourceLine) throws(InvalidResource) {
            self.init(
                via: try line.optional("via") { IPAddress($0) }, link: try line.text("link"),
                isOnLink: try line.flag("onlink"), weight: try line.number("weight", 1...256) ?? 1)
            guard gateway != nil || link != nil else { throw line.invalid("a path needs via or link") }
            // Every link has the kernel's own fe80::/64.
            if let gateway, gateway.isLinkLocal, link == nil { throw line.invalid("a link-local gateway needs a link") }
            if isOnLink, gateway == nil || link == nil { throw line.invalid("\"onlink\" needs a gateway and a link") }
        }

        var fields: [String: JSON] {
            JSON.object([
                "via": gateway.map { .text($0.description) }, "link": link.map { .text($0) },
                "onlink": isOnLink ? .boolean(true) : nil, "weight": weight == 1 ? nil : .integer(weight),
            ]).object ?? [:]
        }
    }

    public var destination: IPPrefix
    public var action: Action
    /// One path, or several among which flows are divided; none where packets are not forwarded.
    public var paths: [Path]
    /// The lower one wins.
    public var metric: Int
    public var table: AllocatedNumber
    /// The source address of the box's own packets (RTA_PREFSRC).
    public var source: IPAddress?
    /// The largest packet, in bytes (RTAX_MTU); nil for the link's MTU.
    public var mtu: Int?

    public init(
        to destination: IPPrefix, via gateway: IPAddress? = nil, link: String? = nil, metric: Int = 0,
        table: AllocatedNumber = RouteResource.mainTable, action: Action = .forward, source: IPAddress? = nil,
        mtu: Int? = nil
    ) {
        self.init(
            to: destination, paths: action == .forward ? [Path(via: gateway, link: link)] : [], metric: metric,
            table: table, action: action, source: source, mtu: mtu)
    }

    public init(
        to destination: IPPrefix, paths: [Path], metric: Int = 0, table: AllocatedNumber = RouteResource.mainTable,
        action: Action = .forward, source: IPAddress? = nil, mtu: Int? = nil
    ) {
        self.destination = destination
        self.action = action
        self.paths = paths
        self.metric = metric
        self.table = table
        self.source = source
        self.mtu = mtu
    }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        let action = try line.optional("action") { Action(rawValue: $0) } ?? .forward
        self.init(
            to: try line.value("to") { IPPrefix($0) }, paths: try Self.paths(line, action),
            metric: try line.number("metric", 0...Int(UInt32.max)) ?? 0,
            table: try line.allocated("table", Allocation.tableNumbers) ?? Self.mainTable, action: action,
            source: try line.optional("source") { IPAddress($0) }, mtu: try line.number("mtu", 68...65_520))
        guard destination == destination.network else { throw line.invalid("\"to\" has bits beyond its length") }
        if let source, source.family != destination.family { throw line.invalid("the source is of another family") }
        if destination.family == .ipv6, paths.count > 1, paths.contains(where: { $0.gateway == nil }) {
            throw line.invalid("each of several IPv6 paths needs a gateway")
        }
        let families = paths.compactMap { $0.gateway?.family } + [source?.family].compactMap { $0 }
        // IPv4 by an IPv6 gateway is possible (RFC 5549), the reverse is not.
        guard !families.contains(.ipv4) || destination.family == .ipv4 else {
            throw line.invalid("an IPv6 route can't have IPv4 addresses")
        }
    }

    private static func paths(_ line: ResourceLine, _ action: Action) throws(InvalidResource) -> [Path] {
        let own = ["via", "link", "onlink"].filter { line[$0] != nil }
        guard action == .forward else {
            guard own.isEmpty, line["paths"] == nil else {
                throw line.invalid("\(action.rawValue) routes have no path")
            }
            return []
        }
        guard let list = line["paths"] else {
            guard own.contains("via") || own.contains("link") else {
                throw line.invalid("a route needs via, link, paths or another action")
            }
            return [try Path(line)]
        }
        guard own.isEmpty, let items = list.list, items.count > 1 else {
            throw line.invalid("\"paths\" is a list of at least two paths, in place of via and link")
        }
        var paths: [Path] = []
        for item in items {
            guard item.object != nil else { throw line.invalid("\"paths\" has an item that is not an object") }
            paths.append(try Path(ResourceLine(item)))
        }
        return paths
    }

    /// IP6_RT_PRIO_USER (linux/ipv6_route.h) takes the place of 0.
    private var kernelMetric: Int { metric == 0 && destination.family == .ipv6 ? 1024 : metric }

    /// What the kernel identifies a route by.
    public var identity: String {
        "\(destination) \(kernelMetric)" + (table == Self.mainTable ? "" : " table \(table)")
    }

    public var fields: [String: JSON] {
        let rest = Self.fields([
            "to": .text(destination.description), "action": action == .forward ? nil : .text(action.rawValue),
            "paths": paths.count > 1 ? .list(paths.map { .object($0.fields) }) : nil, "metric": .integer(metric),
            "table": table == Self.mainTable ? nil : table.json, "source": source.map { .text($0.description) },
            "mtu": mtu.map { .integer($0) },
        ])
        return paths.count == 1 ? rest.merging(paths[0].fields) { first, _ in first } : rest
    }

    public static func mayAllocate(_ line: String) -> Bool { true }

    public func allocated(by share: Allocation.Share, of plugin: String) throws(AllocationViolation) -> RouteResource {
        var route = self
        route.table = try table.resolved("tables", share.tables, of: plugin, free: [Self.mainTable.number])
        return route
    }
}
