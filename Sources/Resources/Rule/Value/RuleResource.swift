/// A policy rule (ip-rule(8)): packets that match all of it are routed by a table.
public struct RuleResource: ResourceType {
    public static let kind = "rule"

    public var family: IPAddress.Family
    /// Rules are tried in ascending order.
    public var priority: Int
    public var table: Int
    public var source: IPPrefix?
    public var destination: IPPrefix?
    /// The interface that packets arrived on.
    public var interface: String?
    public var mark: UInt32?
    public var mask: UInt32?

    public init(
        _ family: IPAddress.Family, priority: Int, table: Int, source: IPPrefix? = nil,
        destination: IPPrefix? = nil, interface: String? = nil, mark: UInt32? = nil, mask: UInt32? = nil
    ) {
        self.family = family
        self.priority = priority
        self.table = table
        self.source = source
        self.destination = destination
        self.interface = interface
        self.mark = mark
        self.mask = mask
    }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        let family: IPAddress.Family = try line.value("family") { ["ipv4": .ipv4, "ipv6": .ipv6][$0] }
        let bits = 0...Int(UInt32.max)
        // 0, 32766 and 32767 are the kernel's own rules.
        guard let priority = try line.number("priority", 1...32_765),
            let table = try line.number("table", RouteResource.tables)
        else { throw line.invalid("a rule needs a priority and a table") }
        self.init(
            family, priority: priority, table: table, source: try line.optional("from") { IPPrefix($0) },
            destination: try line.optional("to") { IPPrefix($0) }, interface: try line.text("interface"),
            mark: try line.number("mark", bits).map { UInt32($0) }, mask: try line.number("mask", bits).map { UInt32($0) })
        guard [source, destination].allSatisfy({ $0.map { $0.family == family } ?? true }) else {
            throw line.invalid("a rule's networks must be of its family")
        }
    }

    public var identity: String { "\(family == .ipv4 ? "ipv4" : "ipv6") \(priority)" }

    public var fields: [String: JSON] {
        Self.fields([
            "family": family == .ipv4 ? "ipv4" : "ipv6", "priority": .integer(priority), "table": .integer(table),
            "from": source.map { .text($0.description) }, "to": destination.map { .text($0.description) },
            "interface": interface.map { .text($0) }, "mark": mark.map { .integer(Int($0)) },
            "mask": mask.map { .integer(Int($0)) },
        ])
    }
}
