import Documents
import Glibc
import Netlink
import Planning
import PluginKit

/// The probes of the active plan, and what a commit must keep before it is active for good.
final class HealthMonitor {
    let places: Places
    let planner: Planner
    let routes: RouteSocket
    let probes: Probes
    let applier: PlanApplier
    private(set) var probation: Probation?

    init(places: Places, planner: Planner, routes: RouteSocket, probes: Probes, applier: PlanApplier) {
        (self.places, self.planner, self.routes) = (places, planner, routes)
        (self.probes, self.applier) = (probes, applier)
    }

    /// What a commit must keep.
    struct Probation {
        var probes: [String: ProbeResource]
        var services = ServiceWatch()
        var passed: Set<String> = []
        /// Facts removed a probe before it had passed: it neither confirms nor refutes the commit.
        var isLost = false
        /// When a commit without a verdict is rolled back, in milliseconds of the kernel's time.
        let deadline = Uptime.milliseconds + 60_000

        init(_ watched: Watched) {
            probes = Dictionary(watched.probes.map { ($0.name, $0) }) { $1 }
            services = watched.services
        }

        var names: [String] { probes.keys.sorted() + services.names.map { "service \($0)" } }
    }

    /// What a plan's commit is to be watched for.
    struct Watched {
        var probes: [ProbeResource]
        var services: ServiceWatch
        var isEmpty: Bool { probes.isEmpty && services.isEmpty }
    }

    enum Verdict: Equatable {
        case undecided, good
        /// A plan removed a probe before it had passed, and the time for it has expired.
        case lost
        case failed(String)
    }

    /// What a commit is watched for that is about to be applied.
    ///
    /// - Parameter isConfirmed: an operator confirms it, and wants all probes to pass. Else those
    ///   that passed must
    ///   go on passing, and those that an earlier commit is still watched for must pass.
    func watched(in plan: Plan, changed: [PlannedResource], isConfirmed: Bool) -> Watched {
        let watched = plan.values(ProbeResource.self).filter { probe in
            let state = probes.states[probe.name]
            return isConfirmed || probation?.probes[probe.name] != nil
                || state?.probe == probe && state?.holds == true
        }
        return Watched(
            probes: watched,
            services: ServiceWatch(
                plan, changed: changed.map(\.resource), earlier: probation?.services ?? ServiceWatch(),
                before: presentServices, logs: places.serviceLogs))
    }

    /// Watches a commit from now on; nil for one that is active for good.
    func begin(_ watched: Watched?) {
        probation = watched.map(Probation.init)
        probes.demand(Set(watched?.probes.map(\.name) ?? []))
    }

    func end() { probation = nil }

    /// Watches the active plan of a commit that an earlier engine began to watch.
    func resume() {
        let plan = applier.applied.plan
        begin(
            Watched(
                probes: plan.values(ProbeResource.self),
                services: ServiceWatch(
                    plan, changed: [], earlier: ServiceWatch(), before: presentServices, logs: places.serviceLogs)))
    }

    /// Inspects the probes and services that a commit is watched for.
    ///
    /// - Parameters:
    ///   - site: the document that was committed.
    ///   - mask: removes secrets from what daemons have logged.
    func judge(_ site: Node, hiding mask: (String) -> String) -> Verdict {
        guard var watched = probation else { return .undecided }
        for (name, probe) in watched.probes.sorted(by: { $0.key < $1.key }) {
            guard let state = probes.states[name], state.probe == probe else {
                // Facts have changed what there is to probe: that is no verdict on the commit.
                watched.probes[name] = nil
                watched.isLost = watched.isLost || !watched.passed.contains(name)
                continue
            }
            if state.holds == false {
                return .failed("the probe \(name) fails (\(probe.check.words)): \(state.reason ?? "")")
            }
            if state.holds == true { watched.passed.insert(name) }
        }
        if let failure = serviceFailure(&watched.services, site) { return .failed(mask(failure)) }
        probation = watched
        guard watched.probes.keys.allSatisfy(watched.passed.contains), watched.services.isGood else {
            return .undecided
        }
        guard watched.isLost else { return .good }
        return Uptime.milliseconds >= watched.deadline ? .lost : .undecided
    }

    /// When services that are watched are due to be inspected, in milliseconds of the kernel's
    /// time.
    var due: Int? { [probes.due, probation?.services.due].compactMap { $0 }.min() }
}
