import CSystem
import Glibc
import Netlink
import Planning
import PluginKit

/// Applies plans, each as one transaction, and knows what the box has.
final class PlanApplier {
    let places: Places
    private let planner: Planner
    private let routes: RouteSocket
    let nftables: FilterTable
    private let facts: FactSources
    private let probes: Probes
    let eviction: Eviction
    private let clock: WallClock
    private let secrets: SecretStore
    /// What the box has now.
    private(set) var applied: AppliedState
    /// What its files say.
    private var noted: AppliedState?
    /// Counts the plans that were applied.
    private(set) var revision = 0
    /// Why the last plan could not be applied; nil when it was.
    private(set) var trouble: String?
    /// When a plan that failed for a reason that may pass is tried again.
    private(set) var retry = Retry()
    var drift = Drift()
    /// What the consoles were told.
    private var shownNotice: String?

    init(
        places: Places, planner: Planner, routes: RouteSocket, nftables: FilterTable, facts: FactSources,
        probes: Probes, eviction: Eviction, clock: WallClock
    ) throws {
        (self.places, self.planner, self.routes, self.nftables) = (places, planner, routes, nftables)
        (self.facts, self.probes, self.eviction, self.clock) = (facts, probes, eviction, clock)
        secrets = SecretStore(folder: places.secrets, scratch: places.state)
        let known = AppliedState(at: places.appliedState, customKinds: planner.customKinds)
        applied = known ?? AppliedState()
        nftables.believed = TablePlan(applied.everything.values.map(\.resource).of(NftablesResource.self))
        // An engine does not know what its predecessor has told PID 1 of the units.
        applied.isSettled = false
        // An engine that starts again finds the table as it was left: it stays until a plan is
        // there.
        if try known == nil || !nftables.hasTable { try nftables.load(TablePlan()) }
    }

    /// - Throws: the first failure, after the plan before was restored as far as possible.
    func apply(_ plan: Plan) throws {
        let before = applied
        let context = context(
            programs: driverPrograms, drifted: driftSetting == .repair ? drift.programs.kinds : [])
        let change = Transaction(context, from: before, to: plan)
        let policy = nftables.policy(at: clock.now)
        try change.checkAll()
        // An engine that crashes from here on leaves a note of what the box may have.
        note { $0 = $0.onTheWay(to: plan) }
        do {
            try change.apply()
            note { $0 = $0.settled(plan) }
            if change.touchesFilter, !before.plan.resources.isEmpty { eviction.watch(since: policy) }
            probes.follow(plan.values(ProbeResource.self))
            // What services have reported goes with them.
            facts.reported.keep(services: Set(plan.values(ServiceResource.self).map(\.name)))
            drift = drift.afterChange
            revision += 1
            // Reports and states of probes may have gone with the old plan.
            facts.areStale = true
            show(plan.notice)
        } catch {
            let failures = Transaction(context, from: applied, to: before.plan).applyWhatIsPossible()
            for failure in failures { Log.say("the rollback failed: \(failure)") }
            if failures.isEmpty { note { $0 = $0.settled(before.plan) } }
            throw error
        }
    }

    /// Returns to a plan that was whole, when no document can be planned.
    func fallBack(to plan: Plan) {
        do {
            try apply(plan)
        } catch {
            settle(error)
            Log.say("the last good plan can't be applied again: \(error)")
        }
    }

    /// Notes what came of a plan. A document that is wrong stays so; what else failed is tried
    /// again.
    func settle(_ error: (any Error)?) {
        trouble = error.map { "\($0)" }
        if error == nil || error is InvalidSite { retry = Retry() } else { retry.again() }
    }

    func note(_ change: (inout AppliedState) -> Void) {
        change(&applied)
        do {
            try applied.save(to: places.appliedState, knowing: noted)
            noted = applied
        } catch {
            Log.say("what is applied can't be noted: \(error)")
        }
    }

    private func context(programs: [DriverProgram] = [], drifted: Set<String> = []) -> DriverContext {
        DriverContext(
            places: places, socket: routes, filter: nftables, secrets: secrets, programs: programs, drifted: drifted,
            driverFailed: { [programs = drift.programs] in programs.failed($0) },
            remember: { values in
                if values.isEmpty { return }
                self.note { $0.sysctls.merge(values) { known, _ in known } }
            }, now: { [clock] in clock.now })
    }

    /// Programs of plugins that drive kinds of their own.
    private var driverPrograms: [DriverProgram] { planner.driverPrograms(in: places.plugins) }

    /// Shows a notice on the consoles, once.
    private func show(_ notice: String?) {
        if let notice, notice != shownNotice { places.consoles.say(notice) }
        shownNotice = notice
    }

    /// Has PID 1 start failed services at once: what they lacked may be there now.
    func retryFailedServices() {
        guard let services = try? places.pidOne.services() else { return }
        for service in services where service.state == "failed" {
            if applied.plan.resources[ResourceKey(ServiceResource.kind, service.name)] != nil {
                try? places.pidOne.tell("retry \(service.name)")
            }
        }
    }

    // MARK: - Drift

    /// Reads what may have changed, reports what has, and repairs it where the configuration wants
    /// that.
    func repairDrift() {
        // A box without a whole plan has other troubles.
        guard trouble == nil, applied.isSettled, let wanted = drift.take() else { return }
        let found: [String]
        do {
            found = try differences(network: wanted.network, rest: wanted.rest)
        } catch {
            return Log.say("drift can't be inspected: \(error)")
        }
        guard !found.isEmpty else {
            if wanted.network, wanted.rest { drift.nothingFound() }
            return
        }
        if found != drift.found { for line in found { Log.say("drift: \(line)") } }
        guard driftSetting == .repair else { return drift.reported(found) }
        var history = drift
        do {
            try apply(applied.plan)
            Log.say("drift: repaired")
        } catch {
            Log.say("drift: it can't be repaired: \(error)")
            // It is trouble, and tried again.
            settle(error)
        }
        // Applying forgets what was found; a program that changes it again and again must not keep
        // the box busy.
        history.repaired(found)
        drift = history
    }

    var driftSetting: SettingResource.Drift {
        for case .drift(let drift) in applied.plan.values(SettingResource.self) { return drift }
        return .repair
    }

    /// Differences from the active plan.
    private func differences(network: Bool, rest: Bool) throws -> [String] {
        let context = context()
        return try (network ? Drivers.drift(context, from: applied.plan, .netlink) : [])
            + (rest ? Drivers.drift(context, from: applied.plan, .polling) : [])
            + (rest ? drift.programs.look(driverPrograms, at: applied.plan) : [])
    }

    // MARK: - What is shown

    var planLines: [String] { applied.plan.lines }

    /// The table as `nft -j -f` would take it.
    var rulesetDocument: JSON { TablePlan(applied.plan.filter).contents.document(table: PacketPath.table) }

    func counters() throws -> JSON {
        .object(
            try nftables.counters().mapValues {
                ["packets": .integer(Int(clamping: $0.packets)), "bytes": .integer(Int(clamping: $0.bytes))]
            })
    }
}
