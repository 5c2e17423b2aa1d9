import Documents
import Files
import Planning
import PluginKit

/// The documents of the box, and their commits: which one is active, and what is planned from it.
final class Configuration {
    let places: Places
    let planner: Planner
    let applier: PlanApplier
    let facts: FactSources
    let health: Health
    let clock: WallClock
    let events: Events
    let store: CommitStore
    /// The documents as their owners gave them, and merged.
    var documents = SiteDocuments()
    var site = Node(.object([:]), position: .init(file: "", line: 1, column: 1))
    var siteName = "nothing"
    /// The documents that the applied plan was made of; they may be earlier ones than the site's.
    var appliedDocuments: SiteDocuments?
    var head = Head()
    /// What is wrong with the commits on the disk.
    var damage: String?
    /// Why the last commit was rolled back.
    var lastRollback: String?
    /// When the site is planned again by its own wish, in seconds since 1970.
    var replanAt: Int?
    private var isReady = false

    init(
        places: Places, planner: Planner, applier: PlanApplier, facts: FactSources, health: Health,
        clock: WallClock, events: Events
    ) {
        (self.places, self.planner, self.applier, self.facts) = (places, planner, applier, facts)
        (self.health, self.clock, self.events) = (health, clock, events)
        store = CommitStore(folder: places.commits, release: places.release)
    }

    var siteReader: SiteReader { SiteReader(places: places, manifests: planner.plugins.map(\.manifest)) }

    // MARK: - Planning

    /// Plans the site with today's facts and applies it. What can't be applied is logged, and the last good plan
    /// stays.
    func follow() {
        facts.areStale = false
        do {
            let reading = try facts.read(beside: applier.applied.plan)
            facts.hasPlanned(with: reading)
            let begin = Uptime.milliseconds
            let plan = try planner.plan(
                site: site, facts: reading.facts, now: clock.now, knowing: applier.applied.plan)
            let planned = Uptime.milliseconds
            for line in plan.absent + plan.warnings { Log.say(line) }
            try applier.apply(plan)
            appliedDocuments = documents
            noteTimes(of: plan)
            let applied = Uptime.milliseconds
            Log.say("\(siteName) is applied: planned in \(planned - begin) ms, applied in \(applied - planned) ms")
            applier.settle(nil)
        } catch {
            applier.settle(error)
            Log.say("\(siteName) is not applied: \(error)")
            // What a predecessor left unfinished is brought to the last plan that was whole.
            if error is InvalidSite, !applier.applied.isSettled { applier.fallBack(to: applier.applied.plan) }
        }
        notify()
    }

    /// Tells PID 1 the state.
    private func notify() {
        let state =
            applier.trouble == nil
            ? "the policy is active"
            : applier.applied.plan.resources.isEmpty
                ? "no policy: nothing is forwarded" : "the last good policy is active"
        Notification.send(isReady ? "STATUS=\(state)" : "READY=1\nSTATUS=\(state)")
        isReady = true
    }

    /// Plans again when the facts differ from those of the last plan. Makes no history.
    func followFacts() {
        facts.areStale = false
        if let reading = try? facts.read(beside: applier.applied.plan), facts.isPlanned(reading) { return }
        follow()
        applier.retryFailedServices()
    }

    /// What documents would do: the resources that they add, and those that they remove or change.
    ///
    /// - Parameter changed: those that are not the present ones.
    func plan(_ documents: SiteDocuments, changed: [SiteDocument], name: String) throws -> Planned {
        let (node, warnings) = try siteReader.read(documents, name: name, changed: changed)
        try SiteReader.checkContent(of: node, name)
        let (reading, active) = (try facts.read(beside: applier.applied.plan), applier.applied.plan)
        var plan = try planner.plan(site: node, facts: reading.facts, now: clock.now, knowing: active)
        plan.warnings = warnings + plan.warnings
        return Planned(
            site: node, plan: plan, reading: reading, added: plan.beyond(active), removed: active.beyond(plan))
    }

    /// A document with its plan, and the facts that it was made with.
    struct Planned {
        var site: Node
        var plan: Plan
        var reading: FactSources.Reading
        var added: [PlannedResource]
        var removed: [PlannedResource]
    }

    /// Runs the programs that check files of a commit.
    ///
    /// - Throws: ``InvalidSite`` with their complaints.
    func checkFiles(of planned: Planned) throws {
        let problems = try FileChecks(places: places).problems(
            of: planned.plan,
            changed: applier.applied.isSettled ? planned.added + planned.removed : planned.plan.ordered,
            site: planned.site, planner: planner)
        // A program may repeat what the file has.
        let masks = SecretMasks(of: [site, planned.site])
        if !problems.isEmpty { throw InvalidSite(problems: masks.hide(problems)) }
    }

    /// Notes when a plan that was applied is to be made again.
    func noteTimes(of plan: Plan) {
        // A time that has passed is no reason to plan again and again.
        replanAt = plan.replanAt.map { $0 > clock.now ? $0 : clock.now + 60 }
    }

    /// Plans again when the plan's own time has come.
    ///
    /// - Returns: true when it has.
    func replanIfDue(clockWasSet: Bool) -> Bool {
        guard let time = replanAt, clockWasSet || clock.now >= time else { return false }
        // What fails is tried again in its own time.
        replanAt = nil
        follow()
        // A document that can't be planned now may be in the next minute: what should have ended has not.
        if applier.trouble != nil, applier.retry.at == nil, replanAt == nil { replanAt = clock.now + 60 }
        return true
    }

    /// Lines of the plan without secrets of the document.
    func hidingSecrets(_ lines: [String]) -> [String] {
        let applied = appliedDocuments.flatMap { try? siteReader.nodes(of: $0, name: "site") } ?? [:]
        return SecretMasks(of: [site] + applied.values).hide(lines)
    }

    var status: JSON {
        .object([
            "site": .text(siteName), "trouble": applier.trouble.map { .text(hidingSecrets([$0])[0]) },
            "resources": .integer(applier.applied.plan.ordered.count),
            "commit": activeCommit.map { .integer($0) },
            "rollback-in": rollbackAt.map { .integer(max(0, $0 - Uptime.milliseconds) / 1000) },
            "probation": health.probation.map { .texts($0.names) },
            "rolled-back": lastRollback.map { .text($0) },
            "drift": applier.drift.found.isEmpty ? nil : .texts(applier.drift.found),
            "damage": damage.map { .text($0) },
        ])
    }
}
