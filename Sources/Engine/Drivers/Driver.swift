import Glibc
import Netlink
import Planning
import PluginKit

/// Brings the resources of one kind into effect. It lies in the kind's folder of `Sources/Resources`.
///
/// Each step compares with what is present and changes only the difference. It may therefore begin
/// wherever an earlier attempt, or an engine that crashed, stopped.
protocol Driver {
    associatedtype Value: ResourceType

    init(_ context: DriverContext)

    /// Lets the kernel check what it can check without a change.
    func check(_ change: KindChange<Value>) throws

    /// The steps that bring the box to the wanted resources.
    func steps(_ change: KindChange<Value>) -> [Step]

    /// Differences from the plan that others made.
    func drift(from plan: Plan) throws -> [String]

    /// How the engine learns of drift.
    static var watch: DriftWatch { get }
}

extension Driver {
    func check(_ change: KindChange<Value>) throws {}
    func drift(from plan: Plan) throws -> [String] { [] }
}

/// How the engine learns that others changed something.
enum DriftWatch: Sendable {
    /// No other program changes it, or the engine does not repair it.
    case none
    /// The kernel reports changes by rtnetlink(7).
    case netlink
    /// The engine compares from time to time.
    case polling
}

/// A resource that a driver brings into effect. The conformance is declared beside the driver: a kind
/// needs no other registration.
protocol DrivenResource: ResourceType {
    associatedtype ItsDriver: Driver where ItsDriver.Value == Self
}

/// What drivers work with.
struct DriverContext {
    var places: Places
    var socket: RouteSocket
    var filter: FilterTable
    var secrets: SecretStore
    /// Plugins' programs that drive kinds of their own.
    var programs: [DriverProgram] = []
    /// Kinds of these programs that differ from the active plan.
    var drifted: Set<String> = []
    /// Is told of a kind whose change failed, although the transaction went on.
    var driverFailed: (String) -> Void = { _ in }
    /// Notes values that sysctls had before the engine set them, by key.
    var remember: ([String: String]) -> Void = { _ in }
    /// Seconds since 1970.
    var now: () -> Int = { time(nil) }
}

/// Parts of a transaction, in their order. Nothing is ever open that neither plan opens: links are
/// down until the packet filter knows them, and removals come last.
enum Phase: Int, CaseIterable {
    case modules, links, bridgeVLANs, sysctls, filter, linksUp, addresses, routes, rules, secrets, directories, files
    /// Custom resources go before a daemon that their driver may need.
    case customRemovalBeforeServices
    case services
    case customRemoval, fileRemoval, directoryRemoval, linkRemoval, sysctlRestoration

    /// Phases without which this one is not tried: a link whose role changed stays down until the
    /// filter has its new role.
    var prerequisites: [Phase] {
        switch self {
        case .filter: [.links]
        case .linksUp: [.links, .bridgeVLANs, .filter]
        default: []
        }
    }
}

/// A part of a driver's work in one phase.
struct Step {
    var phase: Phase
    var run: () throws -> Void

    init(_ phase: Phase, _ run: @escaping () throws -> Void) { (self.phase, self.run) = (phase, run) }
}

/// The differences of two plans in the resources of one kind.
struct KindChange<Value: ResourceType> {
    let plans: PlanChange

    /// All resources of the new plan.
    var wanted: [Value] { plans.new.values(Value.self) }

    /// New and changed ones; all of them where the present state is not known.
    var added: [Value] { plans.added.of(Value.self) }

    /// Those that the new plan does not have, and that may be present.
    var removed: [Value] { plans.removed.of(Value.self) }

    /// All that the old plan has, and that a transaction which was not finished may have left.
    var before: [Value] {
        plans.old.plan.values(Value.self) + plans.old.leftovers.values.map(\.resource).of(Value.self)
    }

    /// False after a transaction that was not finished.
    var isSettled: Bool { plans.old.isSettled }
}

/// The differences of two plans.
final class PlanChange {
    let old: AppliedState
    let new: Plan

    init(from old: AppliedState, to new: Plan) { (self.old, self.new) = (old, new) }

    /// Lines that only one of the two plans has.
    lazy var differences = new.beyond(old.plan) + old.plan.beyond(new)

    /// New and changed resources, in the order of their lines; all of them where the present state is
    /// not known.
    lazy var added: [Resource] = (old.isSettled ? new.beyond(old.plan) : new.ordered).map(\.resource)

    /// Resources that the new plan does not have.
    lazy var removed: [Resource] = {
        let leftovers = old.leftovers.values.filter { old.plan.resources[$0.key] == nil }
        let gone = (old.plan.beyond(new) + leftovers).filter { new.resources[$0.key] == nil }
        return gone.sorted { $0.precedes($1) }.map(\.resource)
    }()
}

/// What a driver has to change.
struct Difference<Wanted, Present> {
    /// Present and not wanted.
    var extra: [Present] = []
    /// Wanted and not present.
    var missing: [Wanted] = []
}

/// All drivers.
enum Drivers {
    private static let types: [any DrivenResource.Type] = ResourceTypes.all.compactMap {
        $0 as? any DrivenResource.Type
    }

    /// The drivers' checks and steps for a change, and what ends the programs that these started.
    static func bind(
        _ context: DriverContext, _ change: PlanChange
    ) -> (check: () throws -> Void, steps: [Step], end: () -> Void) {
        var (checks, steps): ([() throws -> Void], [Step]) = ([], [])
        func bind<Value: DrivenResource>(_ type: Value.Type) {
            let (driver, change) = (Value.ItsDriver(context), KindChange<Value>(plans: change))
            checks.append { try driver.check(change) }
            steps += driver.steps(change)
        }
        for type in types { bind(type) }
        let programs = DriverPrograms(context, change)
        checks.append(programs.check)
        steps += programs.steps
        let ordered = Phase.allCases.flatMap { phase in steps.filter { $0.phase == phase } }
        return ({ for check in checks { try check() } }, ordered, programs.end)
    }

    /// What differs from a plan. A missing link stops the comparison: addresses and routes need it.
    static func drift(_ context: DriverContext, from plan: Plan, _ watch: DriftWatch) throws -> [String] {
        func drift<Value: DrivenResource>(_ type: Value.Type) throws -> [String] {
            guard Value.ItsDriver.watch == watch else { return [] }
            return try Value.ItsDriver(context).drift(from: plan)
        }
        var found: [String] = []
        for type in types {
            found += try drift(type)
            if watch == .netlink, type == LinkResource.self, !found.isEmpty { break }
        }
        return found
    }
}
