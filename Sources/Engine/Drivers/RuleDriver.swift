import Netlink
import PluginKit

/// Policy rules: what is ours carries our number; what others put there is left alone.
struct RuleDriver {
    let socket: RouteSocket

    private func rule(_ resource: RuleResource) -> PolicyRule {
        PolicyRule(
            family: resource.family, priority: resource.priority, table: resource.table, source: resource.source,
            destination: resource.destination, mark: resource.mark,
            // The kernel says the mask of all bits where none was given.
            markMask: resource.mark == nil ? nil : resource.mask ?? .max, interface: resource.interface,
            origin: LinkDriver.origin)
    }

    private func difference(from wanted: [RuleResource]) throws -> (extra: [PolicyRule], missing: [PolicyRule]) {
        let (rules, present) = (wanted.map(rule), try socket.policyRules())
        return (
            present.filter { $0.origin == LinkDriver.origin && !rules.contains($0) },
            rules.filter { !present.contains($0) }
        )
    }

    func drift(from wanted: [RuleResource]) throws -> [String] {
        let difference = try difference(from: wanted)
        return difference.extra.map { "policy rule \($0.priority) is too many" }
            + difference.missing.map { "policy rule \($0.priority) is gone" }
    }

    /// Has the kernel hold these rules, and none of ours beside them.
    func bring(_ wanted: [RuleResource]) throws {
        let difference = try difference(from: wanted)
        // New ones first: there is no moment without any.
        for rule in difference.missing { try socket.add(rule) }
        for rule in difference.extra {
            try tolerant { () throws(NetlinkError) in try socket.delete(rule) }
        }
    }
}
