import Documents
import Planning
import PluginKit

/// The plan of documents, and how it differs from what the box has.
struct PlannedSite: Sendable {
    /// The merged document.
    var site: Node
    var plan: Plan
    var added: [PlannedResource]
    var removed: [PlannedResource]
    /// Resources whose files are to be checked.
    private var changed: [PlannedResource]

    /// - Parameters:
    ///   - changed: documents that are not the present ones.
    ///   - name: what errors call a provider's document that is the only one.
    ///   - now: seconds since 1970.
    ///   - applied: what the box has.
    /// - Throws: ``InvalidSite``; ``PluginFailure`` when a plugin fails.
    init(
        _ documents: SiteDocuments, changed: [SiteDocument], name: String, reader: SiteReader, planner: Planner,
        facts: Facts, now: Int, beside applied: AppliedState
    ) throws {
        let warnings: [String]
        (site, warnings) = try reader.read(documents, name: name, changed: changed)
        try SiteReader.checkContent(of: site, name)
        plan = try planner.plan(site: site, facts: facts, now: now, knowing: applied.plan)
        plan.warnings = warnings + plan.warnings
        (added, removed) = (plan.beyond(applied.plan), applied.plan.beyond(plan))
        self.changed = applied.isSettled ? added + removed : plan.ordered
    }

    /// The complaints of the programs that check files.
    func problems(by checks: FileChecks, _ planner: Planner) throws -> [String] {
        try checks.problems(of: plan, changed: changed, site: site, planner: planner)
    }
}
