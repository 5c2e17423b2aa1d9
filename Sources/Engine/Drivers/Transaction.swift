import Netlink
import Planning
import PluginKit

/// Brings the box from one plan to another, in the order of ``Phase``.
final class Transaction {
    private let change: PlanChange
    private let check: () throws -> Void
    private let steps: [Step]
    /// Ends plugins' programs that drive kinds of their own: they live for one transaction.
    private let end: () -> Void

    init(_ context: DriverContext, from old: AppliedState, to new: Plan) {
        change = PlanChange(from: old, to: new)
        (check, steps, end) = Drivers.bind(context, change)
    }

    /// Whether the packet filter changes.
    var touchesFilter: Bool { change.differences.contains { $0.resource.as(NftablesResource.self) != nil } }

    /// Lets drivers check what can be checked without a change.
    func checkAll() throws {
        do {
            try check()
        } catch {
            end()
            throw error
        }
    }

    /// - Throws: the first failure; the box is then between the two plans.
    func apply() throws {
        defer { end() }
        for step in steps { try step.run() }
    }

    /// Goes as far towards the plan as possible: a step that fails stops only those that need it.
    ///
    /// - Returns: the failures.
    func applyWhatIsPossible() -> [any Error] {
        defer { end() }
        var (failures, failed): ([any Error], Set<Phase>) = ([], [])
        for step in steps where failed.isDisjoint(with: step.phase.prerequisites) {
            do {
                try step.run()
            } catch {
                failures.append(error)
                failed.insert(step.phase)
            }
        }
        return failures
    }
}
