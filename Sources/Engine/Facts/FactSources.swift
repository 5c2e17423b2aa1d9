import Glibc
import Netlink
import Planning
import PluginKit

/// The facts of the box: what the engine observes, and what services report; and when they are
/// planned with.
final class FactSources {
    private let places: Places
    private let routes: RouteSocket
    private let planner: Planner
    private let probes: Probes
    /// What services report, and by which socket.
    let reported: FactStore
    private let reports: Reports
    /// Those of the last plan; nil before the first.
    private(set) var planned: Facts?
    /// The kernel's numbers of the ports then: one that went and came has another.
    private var plannedPorts: Set<Int> = []
    /// The facts may be others than those of the plan.
    var areStale = false
    /// When they are followed next at the earliest, in milliseconds of the kernel's time.
    private(set) var notBefore = 0
    /// Milliseconds that facts have taken of late, and until when.
    private var debt = (0, 0)
    /// What they may take at once.
    private static let credit = 1000

    init(places: Places, routes: RouteSocket, planner: Planner, probes: Probes) throws {
        (self.places, self.routes, self.planner, self.probes) = (places, routes, planner, probes)
        reported = FactStore(places: places)
        reports = try Reports(places: places, facts: reported)
    }

    /// Facts as they were read, with the kernel's numbers of ports.
    struct Reading {
        var facts: Facts
        var ports: Set<Int>
    }

    /// The collections that some plugin of this box reads.
    func current() throws -> Facts { try collections(Set(planner.plugins.flatMap(\.manifest.facts))) }

    func collections(_ wanted: Set<String>) throws -> Facts {
        try places.facts(routes, reported, wanted, probes: probes.facts)
    }

    /// Reads what a plan is made with.
    ///
    /// - Parameter plan: the active one, which names links that services make.
    func read(beside plan: Plan) throws -> Reading {
        let external = Set(plan.values(LinkResource.self).filter { $0.isExternal }.map(\.name))
        let ports = try routes.links().filter { Ports.isPort($0) || external.contains($0.name) }.map(\.index)
        return Reading(facts: try current(), ports: Set(ports))
    }

    /// Notes what a plan was made with.
    func hasPlanned(with reading: Reading) { (planned, plannedPorts) = (reading.facts, reading.ports) }

    /// Whether a plan was made with just these.
    func isPlanned(_ reading: Reading) -> Bool { reading.facts == planned && reading.ports == plannedPorts }

    /// Notes how long facts took. Those that change all the time take half of the time at most.
    func noteTime(from begin: Int, to end: Int) {
        let (before, until) = debt
        debt = (max(0, before - (begin - until)) + end - begin, end)
        notBefore = end + max(0, debt.0 - Self.credit)
    }

    // MARK: - In the engine's loop

    var polled: [pollfd] { reports.polled }
    /// When services' reports have something to do though nothing came, in milliseconds of the
    /// kernel's time.
    var nextReport: Int? { [reports.due, reported.nextEnd].compactMap { $0 }.min() }
    /// When a plan with changed facts is due, in the same.
    var due: Int? { areStale ? notBefore : nil }

    /// Takes what services have reported by now.
    func step(_ applied: AppliedState) {
        let hasReports = reports.step { service in
            let key = ResourceKey(ServiceResource.kind, service)
            // Of what is being applied, too: a service may report before the rest of its plan is
            // there. Asked for each report only: a plan may have tens of thousands of resources.
            guard let planned = applied.leftovers[key] ?? applied.plan.resources[key] else { return nil }
            return planner.plugins.first { $0.manifest.name == planned.plugin }?.manifest
        }
        if reported.forgetEnded() || hasReports { areStale = true }
    }
}
