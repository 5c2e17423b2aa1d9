import Netlink
import PluginKit

extension RuleResource: DrivenResource { typealias ItsDriver = RuleDriver }

/// Policy rules. The engine's own carry its protocol number (FRA_PROTOCOL); others are not touched.
struct RuleDriver: Driver {
    static let watch = DriftWatch.netlink

    private let socket: RouteSocket

    init(_ context: DriverContext) { socket = context.socket }

    func steps(_ change: KindChange<RuleResource>) -> [Step] {
        [Step(.rules) { try self.converge(change.wanted) }]
    }

    /// A rule in the kernel's form: it has no FRA_SRC and FRA_DST for networks of length 0
    /// (fib4_rule_fill in net/ipv4/fib_rules.c), no FRA_FWMARK for the mark 0, and the mask of all bits
    /// for a mark without one (fib_nl_fill_rule in net/core/fib_rules.c).
    static func rule(_ wanted: RuleResource) -> PolicyRule {
        func network(_ prefix: IPPrefix?) -> IPPrefix? { prefix.flatMap { $0.length == 0 ? nil : $0 } }
        let mask = wanted.mask ?? (wanted.mark == nil ? nil : .max)
        return PolicyRule(
            family: wanted.family, priority: wanted.priority, table: wanted.table, source: network(wanted.source),
            destination: network(wanted.destination), mark: wanted.mark == 0 ? nil : wanted.mark,
            markMask: mask == 0 ? nil : mask, interface: wanted.interface, origin: LinkDriver.origin)
    }

    static func difference(wanted: [PolicyRule], present: [PolicyRule]) -> Difference<PolicyRule, PolicyRule> {
        let (isWanted, isPresent) = (Set(wanted), Set(present))
        return Difference(
            extra: present.filter { $0.origin == LinkDriver.origin && !isWanted.contains($0) },
            missing: wanted.filter { !isPresent.contains($0) })
    }

    private func difference(_ wanted: [RuleResource]) throws -> Difference<PolicyRule, PolicyRule> {
        Self.difference(wanted: wanted.map(Self.rule), present: try socket.policyRules())
    }

    func drift(from wanted: [RuleResource]) throws -> [String] {
        let difference = try difference(wanted)
        return difference.extra.map { "policy rule \($0.priority) is not planned" }
            + difference.missing.map { "policy rule \($0.priority) is missing" }
    }

    private func converge(_ wanted: [RuleResource]) throws {
        let difference = try difference(wanted)
        // New rules first, so that packets always meet one.
        for rule in difference.missing { try socket.add(rule) }
        for rule in difference.extra {
            try tolerant { () throws(NetlinkError) in try socket.delete(rule) }
        }
    }
}
