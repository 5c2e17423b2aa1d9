/// A policy rule (ip-rule(8)): what happens to packets that match all of it.
public struct RuleResource: ResourceType {
    public static let kind = "rule"

    public enum Action: Sendable, Hashable {
        /// A routing table decides.
        case table(AllocatedNumber)
        /// The table of the VRF that the packet belongs to decides (FRA_L3MDEV).
        case vrf
        case blackhole, unreachable, prohibit

        private static let names: [(String, Action)] = [
            ("vrf", .vrf), ("blackhole", .blackhole), ("unreachable", .unreachable), ("prohibit", .prohibit),
        ]

        init?(_ name: String) {
            guard let action = Self.names.first(where: { $0.0 == name })?.1 else { return nil }
            self = action
        }

        var name: String? { Self.names.first { $0.1 == self }?.0 }
    }

    public var family: IPAddress.Family
    /// Rules are tried in ascending order.
    public var priority: AllocatedNumber
    public var action: Action
    public var source: IPPrefix?
    public var destination: IPPrefix?
    /// The interface that packets arrived on; `lo` for those of the box.
    public var interface: String?
    /// The interface that the box's own sockets are bound to.
    public var outputInterface: String?
    /// Values of mark fields, by the fields' names: what a plan writes. The engine makes one mark and
    /// its mask of them.
    public var marks: [String: Int] = [:]
    public var mark: UInt32?
    /// The bits of the mark that are compared; nil for all.
    public var mask: UInt32?
    /// Ignores the table's routes whose prefix has this length or less: 0 ignores default routes.
    public var suppressedPrefixLength: Int?
    /// The number of the transport protocol (IANA).
    public var transport: Int?
    public var sourcePorts: ClosedRange<Int>?
    public var destinationPorts: ClosedRange<Int>?
    /// Numeric users of the box's own sockets.
    public var users: ClosedRange<Int>?
    /// The name of a single one, whose number the box knows.
    public var user: String?

    public init(
        _ family: IPAddress.Family, priority: AllocatedNumber, action: Action, source: IPPrefix? = nil,
        destination: IPPrefix? = nil, interface: String? = nil, mark: UInt32? = nil, mask: UInt32? = nil
    ) {
        self.family = family
        self.priority = priority
        self.action = action
        self.source = source
        self.destination = destination
        self.interface = interface
        self.mark = mark
        self.mask = mask
    }

    public init(
        _ family: IPAddress.Family, priority: AllocatedNumber, table: AllocatedNumber, source: IPPrefix? = nil,
        destination: IPPrefix? = nil, interface: String? = nil, mark: UInt32? = nil, mask: UInt32? = nil
    ) {
        self.init(
            family, priority: priority, action: .table(table), source: source, destination: destination,
            interface: interface, mark: mark, mask: mask)
    }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        let family: IPAddress.Family = try line.value("family") { ["ipv4": .ipv4, "ipv6": .ipv6][$0] }
        let bits = 0...Int(UInt32.max)
        let table = try line.allocated("table", Allocation.tableNumbers)
        guard let priority = try line.allocated("priority", Allocation.priorityNumbers),
            let action = try line.optional("action", { Action($0) }) ?? table.map(Action.table)
        else { throw line.invalid("a rule needs a priority, and a table or an action") }
        if table != nil, line["action"] != nil { throw line.invalid("a rule has a table or an action") }
        self.init(
            family, priority: priority, action: action, source: try line.optional("from") { IPPrefix($0) },
            destination: try line.optional("to") { IPPrefix($0) }, interface: try line.text("interface"),
            mark: line["mark"]?.object == nil ? try line.number("mark", bits).map { UInt32($0) } : nil,
            mask: try line.number("mask", bits).map { UInt32($0) })
        for (field, value) in line["mark"]?.object ?? [:] {
            guard let number = value.integer, number >= 0 else {
                throw line.invalid("\"mark\" is not numbers by the names of mark fields")
            }
            marks[field] = number
        }
        if !marks.isEmpty, mask != nil { throw line.invalid("mark fields have no \"mask\"") }
        outputInterface = try line.text("output-interface")
        suppressedPrefixLength = try line.number("suppress-prefix-length", 0...128)
        transport = try line.number("transport", 1...255)
        sourcePorts = try line.range("source-ports", 1...65_534)
        destinationPorts = try line.range("destination-ports", 1...65_534)
        users = try line.range("users", 0...Int(UInt32.max) - 1)
        user = try line.text("user")
        if users != nil, user != nil { throw line.invalid("a rule has \"user\" or \"users\"") }
        guard [source, destination].allSatisfy({ $0.map { $0.family == family } ?? true }) else {
            throw line.invalid("a rule's networks must be of its family")
        }
    }

    public var identity: String { "\(family == .ipv4 ? "ipv4" : "ipv6") \(priority)" }

    public var fields: [String: JSON] {
        func list(_ range: ClosedRange<Int>?) -> JSON? {
            range.map { .list([.integer($0.lowerBound), .integer($0.upperBound)]) }
        }
        var table: AllocatedNumber?
        if case .table(let number) = action { table = number }
        return Self.fields([
            "family": family == .ipv4 ? "ipv4" : "ipv6", "priority": priority.json,
            "table": table.map(\.json), "action": action.name.map { .text($0) },
            "from": source.map { .text($0.description) }, "to": destination.map { .text($0.description) },
            "interface": interface.map { .text($0) }, "output-interface": outputInterface.map { .text($0) },
            "mark": marks.isEmpty ? mark.map { .integer(Int($0)) } : .object(marks.mapValues { .integer($0) }),
            "mask": mask.map { .integer(Int($0)) },
            "suppress-prefix-length": suppressedPrefixLength.map { .integer($0) },
            "transport": transport.map { .integer($0) }, "source-ports": list(sourcePorts),
            "destination-ports": list(destinationPorts), "users": list(users), "user": user.map { .text($0) },
        ])
    }

    public static func mayAllocate(_ line: String) -> Bool { true }

    public func allocated(by share: Allocation.Share, of plugin: String) throws(AllocationViolation) -> RuleResource {
        var rule = self
        rule.priority = try priority.resolved("priorities", share.priorities, of: plugin)
        if case .table(let table) = action {
            rule.action = .table(
                try table.resolved("tables", share.tables, of: plugin, free: RouteResource.kernelTables))
        }
        guard mark == nil, mask == nil else {
            throw AllocationViolation(
                "a rule of the plugin \(plugin) compares the mark \(mark ?? 0) by its number; allocate a field in its "
                    + "manifest, such as \"allocates\": {\"marks\": {\"route\": \"shared\"}}, and write "
                    + "\"mark\": {\"route\": 1}")
        }
        if marks.isEmpty { return rule }
        var (value, bits): (UInt32, UInt32) = (0, 0)
        for (name, number) in marks.sorted(by: { $0.key < $1.key }) {
            let field = try share.field(name, of: plugin)
            value |= try field.mark(number)
            bits |= field.mask
        }
        (rule.mark, rule.mask, rule.marks) = (value, bits, [:])
        return rule
    }
}
