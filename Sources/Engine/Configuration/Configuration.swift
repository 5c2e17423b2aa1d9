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
    let health: HealthMonitor
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
    /// Why the commits on the disk can't be used.
    var damage: String?
    /// Why the last commit was rolled back.
    var lastRollback: String?
    /// When the plan itself demands to be made again, in seconds since 1970.
    var replanAt: Int?
    private var isReady = false
    /// Plans, so that the loop goes on meanwhile.
    let background = Background()
    /// Commits that wait for their turn.
    var requests: [Request] = []
    /// The commit that is being planned; nil for a plan with changed facts.
    var planned: Request?
    /// The clock was set since the last plan began.
    private var clockWasSet = false

    init(
        places: Places, planner: Planner, applier: PlanApplier, facts: FactSources, health: HealthMonitor,
        clock: WallClock, events: Events
    ) {
        (self.places, self.planner, self.applier, self.facts) = (places, planner, applier, facts)
        (self.health, self.clock, self.events) = (health, clock, events)
        store = CommitStore(folder: places.commits, release: places.release)
    }

    var siteReader: SiteReader { SiteReader(places: places, manifests: planner.manifests) }

    // MARK: - Following

    /// Whether a document is being planned: other plans wait for it.
    var isPlanning: Bool { background.isBusy }

    /// Plans the site with today's facts and applies it before this returns: at the start, and
    /// after a rollback.
    func followNow() {
        guard let plan = beginFollowing(with: nil) else { return }
        finishFollowing(with: Result { try plan() })
    }

    /// The same, while the engine's loop goes on.
    ///
    /// - Parameters:
    ///   - reading: the facts, where they are read already.
    ///   - then: is called when the plan is applied, or could not be.
    func follow(with reading: FactSources.Reading? = nil, then: @escaping () -> Void = {}) {
        guard let plan = beginFollowing(with: reading) else { return then() }
        background.run(plan) { result in
            self.finishFollowing(with: result)
            then()
        }
    }

    /// Plans again when the facts differ from those of the last plan. Makes no history.
    func followFacts() {
        let begin = Uptime.milliseconds
        facts.areStale = false
        let reading = try? facts.read(beside: applier.applied.plan)
        if let reading, facts.isPlanned(reading) {
            return facts.noteTime(from: begin, to: Uptime.milliseconds)
        }
        follow(with: reading) {
            self.applier.retryFailedServices()
            self.facts.noteTime(from: begin, to: Uptime.milliseconds)
        }
    }

    /// - Returns: what makes the plan; nil when the facts can't be read.
    private func beginFollowing(with known: FactSources.Reading?) -> (@Sendable () throws -> Timed)? {
        facts.areStale = false
        do {
            let reading = try known ?? facts.read(beside: applier.applied.plan)
            facts.hasPlanned(with: reading)
            clockWasSet = false
            return { [planner, site, now = clock.now, known = applier.applied.plan] in
                let begin = Uptime.milliseconds
                let plan = try planner.plan(site: site, facts: reading.facts, now: now, knowing: known)
                return Timed(plan: plan, now: now, milliseconds: Uptime.milliseconds - begin)
            }
        } catch {
            finishFollowing(with: .failure(error))
            return nil
        }
    }

    private struct Timed: Sendable {
        var plan: Plan
        /// The time that it was made with.
        var now: Int
        var milliseconds: Int
    }

    /// What can't be applied is logged, and the last good plan stays.
    private func finishFollowing(with result: Result<Timed, any Error>) {
        do {
            let timed = try result.get()
            let plan = timed.plan
            for line in plan.absent + plan.warnings { Log.say(line) }
            let begin = Uptime.milliseconds
            try applier.apply(plan)
            appliedDocuments = documents
            noteTimes(of: plan, at: timed.now)
            let milliseconds = (plan: timed.milliseconds, apply: Uptime.milliseconds - begin)
            Log.say("\(siteName) is applied: planned in \(milliseconds.plan) ms, applied in \(milliseconds.apply) ms")
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
    func notify() {
        let state =
            applier.trouble == nil
            ? "the policy is active"
            : applier.applied.plan.resources.isEmpty
                ? "no policy: nothing is forwarded" : "the last good policy is active"
        Notification.send(isReady ? "STATUS=\(state)" : "READY=1\nSTATUS=\(state)")
        isReady = true
    }

    /// Notes when a plan that was applied is to be made again.
    ///
    /// - Parameter now: the time that it was made with, in seconds since 1970.
    func noteTimes(of plan: Plan, at now: Int) {
        // A plugin that names a time of the past must not be asked again and again.
        replanAt = plan.replanAt.map { clockWasSet ? clock.now : $0 > now ? $0 : clock.now + 60 }
    }

    /// Has a plan that depends on the time made again: the clock was set.
    func replanSoon() {
        clockWasSet = true
        replanAt = replanAt.map { min($0, clock.now) }
    }

    /// Plans again when the plan's own time has come.
    ///
    /// - Returns: true when it has.
    func replanIfDue() -> Bool {
        guard let time = replanAt, clock.now >= time else { return false }
        // What fails is tried again in its own time.
        replanAt = nil
        follow { self.replanIfStuck() }
        return true
    }

    /// A document that can't be planned now may be in the next minute: what should have ended has
    /// not.
    func replanIfStuck() {
        guard applier.trouble != nil, applier.retry.at == nil, replanAt == nil else { return }
        replanAt = clock.now + 60
    }

    // MARK: - Planning

    /// Plans documents: the resources that they add, and those that they remove or change.
    ///
    /// - Parameters:
    ///   - changed: those that are not the present ones.
    ///   - checksFiles: whether programs check files of the plan, too.
    /// - Returns: what makes the plan, on any thread.
    func planning(
        _ documents: SiteDocuments, changed: [SiteDocument], name: String, checksFiles: Bool
    ) throws -> @Sendable () throws -> Planned {
        let (reading, applied) = (try facts.read(beside: applier.applied.plan), applier.applied)
        clockWasSet = false
        return { [places, planner, siteReader, site, now = clock.now] in
            let planned = try PlannedSite(
                documents, changed: changed, name: name, reader: siteReader, planner: planner, facts: reading.facts,
                now: now, beside: applied)
            guard checksFiles else { return Planned(site: planned, reading: reading, now: now) }
            // What an operator names must be there; a box that boots goes on without it.
            guard planned.plan.absent.isEmpty else { throw InvalidSite(problems: planned.plan.absent) }
            let problems = try planned.problems(by: FileChecks(places: places), planner)
            // A program may repeat what the file has.
            if !problems.isEmpty { throw InvalidSite(problems: SecretMasks(of: [site, planned.site]).hide(problems)) }
            return Planned(site: planned, reading: reading, now: now)
        }
    }

    /// A plan of documents, and the facts that it was made with.
    struct Planned: Sendable {
        var site: PlannedSite
        var reading: FactSources.Reading
        /// The time that it was made with, in seconds since 1970.
        var now: Int
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
