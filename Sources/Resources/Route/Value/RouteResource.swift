/// A route.
public struct RouteResource: ResourceType {
    public static let kind = "route"

    /// The kernel's main table (RT_TABLE_MAIN, rtnetlink(7)).
    public static let mainTable = 254
    /// Numbers of routing tables: 0 is RT_TABLE_UNSPEC.
    static let tables = 1...Int(UInt32.max)

    public var destination: IPPrefix
    public var gateway: IPAddress?
    /// The link that packets leave by; nil where the kernel finds it by the gateway.
    public var link: String?
    public var metric: Int
    public var table: Int

    public init(
        to destination: IPPrefix, via gateway: IPAddress? = nil, link: String? = nil, metric: Int = 0,
        table: Int = RouteResource.mainTable
    ) {
        self.destination = destination
        self.gateway = gateway
        self.link = link
        self.metric = metric
        self.table = table
    }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        self.init(
            to: try line.value("to") { IPPrefix($0) }, via: try line.optional("via") { IPAddress($0) },
            link: try line.text("link"), metric: try line.number("metric", 0...Int(UInt32.max)) ?? 0,
            table: try line.number("table", Self.tables) ?? Self.mainTable)
        // Every link has the kernel's own fe80::/64.
        if let gateway, gateway.isLinkLocal, link == nil { throw line.invalid("a link-local gateway needs a link") }
    }

    public var identity: String { "\(destination) \(metric)" + (table == Self.mainTable ? "" : " table \(table)") }

    public var fields: [String: JSON] {
        Self.fields([
            "to": .text(destination.description), "via": gateway.map { .text($0.description) },
            "link": link.map { .text($0) }, "metric": .integer(metric),
            "table": table == Self.mainTable ? nil : .integer(table),
        ])
    }
}
