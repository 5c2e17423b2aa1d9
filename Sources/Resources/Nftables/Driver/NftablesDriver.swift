import Planning
import PluginKit

extension NftablesResource: DrivenResource { typealias ItsDriver = NftablesDriver }

/// Applies the table of a plan, in one batch.
final class NftablesDriver: Driver {
    static let watch = DriftWatch.polling

    private let table: FilterTable
    /// What the kernel has checked.
    private var checked: FilterTable.Change?

    init(_ context: DriverContext) { table = context.filter }

    /// Where only the packet filter changes, applying its batch is the check.
    func check(_ change: KindChange<NftablesResource>) throws {
        let isAlone = change.plans.differences.allSatisfy { $0.resource.as(NftablesResource.self) != nil }
        if !change.isSettled || !isAlone { checked = try table.check(TablePlan(change.wanted)) }
    }

    func steps(_ change: KindChange<NftablesResource>) -> [Step] {
        [
            Step(.filter) {
                if let checked = self.checked {
                    try self.table.apply(checked)
                } else {
                    try self.table.apply(TablePlan(change.wanted))
                }
            }
        ]
    }

    func drift(from plan: Plan) throws -> [String] {
        try table.wasChangedByOthers() ? ["another program changed the packet filter"] : []
    }
}
