import Planning
import PluginKit

/// What plugins' drivers have to do in one transaction.
struct DriverPrograms {
    private(set) var steps: [Step] = []
    private let context: DriverContext
    private let change: PlanChange
    /// Of the kinds that the transaction has to do with, in the order in which they are applied.
    private let sessions: [DriverSession]

    init(_ context: DriverContext, _ change: PlanChange) {
        (self.context, self.change) = (context, change)
        let concerned = context.programs.filter { change.concerns($0.kind, drifted: context.drifted) }
        let ordered = Phase.allCases.flatMap { phase in concerned.filter { Phase($0.driver.phase) == phase } }
        sessions = ordered.map(DriverSession.init)
        for session in sessions { steps += applySteps(session) }
        // A resource may need those that were applied before it.
        for session in sessions.reversed() { steps += removalSteps(session) }
    }

    /// Lets the programs check what the new plan has of their kinds.
    func check() throws {
        for session in sessions {
            let wanted = wanted(session)
            if wanted.isEmpty { continue }
            try tolerating(session) { try session.check(wanted) }
        }
    }

    func end() { for session in sessions { session.end() } }

    private func wanted(_ session: DriverSession) -> [CustomResource] {
        session.program.wanted(by: change.new).values.sorted { $0.identity < $1.identity }
    }

    private func applySteps(_ session: DriverSession) -> [Step] {
        // A step each: going back to the old plan, the others are tried where one fails.
        wanted(session).map { resource in
            Step(Phase(session.program.driver.phase)) { try tolerating(session) { try session.apply(resource) } }
        }
    }

    private func removalSteps(_ session: DriverSession) -> [Step] {
        let program = session.program
        let wanted = Set(program.wanted(by: change.new).keys)
        let leftovers = change.old.leftovers.values.map(\.resource).of(CustomResource.self)
        let before = Set(program.wanted(by: change.old.plan).keys).union(
            leftovers.filter { $0.lineKind == program.kind }.map(\.identity))
        let losesService = change.removed.of(ServiceResource.self).contains { $0.name.hasPrefix(program.plugin + "-") }
        let phase: Phase = losesService ? .customRemovalBeforeServices : .customRemoval
        var steps = before.subtracting(wanted).sorted().map { id in
            Step(phase) { try tolerating(session) { try session.remove(id) } }
        }
        // Of a time that the engine does not know of: the state depends on the last plan alone.
        steps.append(Step(phase) { try tolerating(session) { try session.removeOthers(than: wanted) } })
        return steps
    }

    /// A driver's error fails the transaction only where it changes resources of the driver's kind, and
    /// there is a plan to go back to. After the box has booted, a failing driver must not keep it from its
    /// network; and a repair that fails must not keep an operator from other changes. The error is logged
    /// once a transaction, and the next look for drift tries again.
    private func tolerating(_ session: DriverSession, _ body: () throws -> Void) throws {
        let kind = session.program.kind
        let isChanged = change.differences.contains { $0.key.kind == kind }
        guard change.old.plan.resources.isEmpty || !isChanged else { return try body() }
        do {
            try body()
        } catch {
            context.driverFailed(kind)
            if session.isReported { return }
            session.isReported = true
            Log.say("\(error) (the engine goes on without it, and tries again)")
        }
    }
}

extension PlanChange {
    /// Whether a transaction has to do with a kind that a plugin's program drives. It leaves the others
    /// alone: a program that hangs must not keep an operator from changing the firewall.
    fileprivate func concerns(_ kind: String, drifted: Set<String>) -> Bool {
        if drifted.contains(kind) || differences.contains(where: { $0.key.kind == kind }) { return true }
        return !old.isSettled && old.changingKinds?.contains(kind) ?? true
    }
}

extension Phase {
    fileprivate init(_ phase: PluginManifest.Driver.Phase) {
        switch phase {
        case .addresses: self = .addresses
        case .routes: self = .routes
        case .rules: self = .rules
        case .directories: self = .directories
        case .files: self = .files
        case .services: self = .services
        }
    }
}
