import Glibc
import Netlink
import Planning
import PluginKit

extension RuleResource: DrivenResource { typealias ItsDriver = RuleDriver }

/// Policy rules. The engine's own carry its protocol number (FRA_PROTOCOL); others are not touched.
struct RuleDriver: Driver {
    static let watch = DriftWatch.netlink

    private let socket: RouteSocket

    init(_ context: DriverContext) { socket = context.socket }

    func check(_ change: KindChange<RuleResource>) throws {
        let users = PlannedUsers(change.plans.new)
        for rule in change.wanted { _ = try Self.numbered(rule, users) }
    }

    /// A rule with the number of its user.
    private static func numbered(_ rule: RuleResource, _ users: PlannedUsers) throws -> RuleResource {
        guard let name = rule.user else { return rule }
        guard let user = users.number(of: name) else {
            throw EngineError(
                "rule \(rule.identity): there is no user \(name); allowed are users of the image and of system.users")
        }
        var numbered = rule
        (numbered.user, numbered.users) = (nil, Int(user)...Int(user))
        return numbered
    }

    func steps(_ change: KindChange<RuleResource>) -> [Step] {
        [Step(.rules) { try self.converge(change.wanted, PlannedUsers(change.plans.new)) }]
    }

    /// A rule in the kernel's form.
    static func rule(_ wanted: RuleResource) -> PolicyRule {
        func ports(_ range: ClosedRange<Int>?) -> ClosedRange<UInt16>? {
            range.map { UInt16(clamping: $0.lowerBound)...UInt16(clamping: $0.upperBound) }
        }
        let (action, table): (PolicyRule.Action, Int) =
            switch wanted.action {
            case .table(let table): (.lookup, table.number)
            case .vrf: (.lookup, 0)
            case .blackhole: (.blackhole, 0)
            case .unreachable: (.unreachable, 0)
            case .prohibit: (.prohibit, 0)
            }
        return PolicyRule(
            family: wanted.family, priority: wanted.priority.number, table: table, source: wanted.source,
            destination: wanted.destination, mark: wanted.mark, markMask: wanted.mask, interface: wanted.interface,
            origin: LinkDriver.origin, action: action, outputInterface: wanted.outputInterface,
            isL3mdev: wanted.action == .vrf, suppressedPrefixLength: wanted.suppressedPrefixLength,
            transport: wanted.transport.map { UInt8(clamping: $0) }, sourcePorts: ports(wanted.sourcePorts),
            destinationPorts: ports(wanted.destinationPorts),
            users: wanted.users.map { UInt32(clamping: $0.lowerBound)...UInt32(clamping: $0.upperBound) })
    }

    /// - Parameter present: the rules with the engine's protocol number.
    static func difference(wanted: [PolicyRule], present: [PolicyRule]) -> Difference<PolicyRule, PolicyRule> {
        let (isWanted, isPresent) = (Set(wanted), Set(present))
        return Difference(
            extra: present.filter { !isWanted.contains($0) },
            missing: wanted.filter { !isPresent.contains($0) })
    }

    private func difference(
        _ wanted: [RuleResource], _ users: PlannedUsers
    ) throws -> Difference<PolicyRule, PolicyRule> {
        Self.difference(
            wanted: try wanted.map { Self.rule(try Self.numbered($0, users)) },
            present: try socket.policyRules(origin: LinkDriver.origin))
    }

    func drift(from plan: Plan) throws -> [String] {
        let difference = try difference(plan.values(RuleResource.self), PlannedUsers(plan))
        return difference.extra.map { "policy rule \($0.priority) is not planned" }
            + difference.missing.map { "policy rule \($0.priority) is missing" }
    }

    private func converge(_ wanted: [RuleResource], _ users: PlannedUsers) throws {
        let difference = try difference(wanted, users)
        // New rules first, so that packets always meet one.
        for rule in difference.missing { try socket.add(rule) }
        for rule in difference.extra {
            try tolerant { () throws(NetlinkError) in try socket.delete(rule) }
        }
    }
}
