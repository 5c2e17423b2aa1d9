import Documents
import Glibc
import Planning
import PluginKit

/// The services of a pending commit. Each one must become ready, and must not
/// exit again and again.
///
/// A service with a `ready` of its own is good once its new process is ready, any other after it has run
/// for ``look``. Two exits in a row fail the commit, and so does a service that PID 1 has killed because it
/// never became ready. What failed before the commit and is the same in it is not watched.
struct ServiceWatch {
    /// Why a commit is rolled back.
    struct Failure: Equatable {
        var name: String
        /// As PID 1 reports it.
        var reason: String
        var exits: Int
    }

    fileprivate struct Watched {
        let resource: ServiceResource
        /// Its process before the commit; 0 for none.
        let oldPID: Int
        /// Where its log ended before the commit.
        let mark: ServiceLogs.Mark?
        /// How often it had been started again before the exits that count.
        var restarts: Int
        /// The process that runs now, and since when, in milliseconds of the kernel's time.
        var run: (pid: Int, since: Int)?
        var isGood = false
    }

    /// Milliseconds that a service without a `ready` of its own must run without an exit.
    static let look = 2000
    /// Milliseconds of a run after which the exits before it do not count: PID 1's own.
    static let soundRun = 30_000
    /// Milliseconds between two questions to PID 1; and when all are good.
    private static let (interval, longInterval) = (200, 1000)
    /// Exits in a row that fail a commit.
    fileprivate static let mostExits = 2
    /// Milliseconds after which a service is good that PID 1 has not started, as one that waits for others.
    private static let patience = 120_000

    private var watched: [String: Watched] = [:]
    private let begin = Uptime.milliseconds
    /// When PID 1 is asked next, in milliseconds of the kernel's time.
    private var dueAt = Uptime.milliseconds

    /// No service.
    init() {}

    /// - Parameters:
    ///   - plan: the commit's.
    ///   - changed: what it adds or changes.
    ///   - earlier: of a commit that is still watched.
    ///   - before: all services before the commit is applied.
    init(
        _ plan: Plan, changed: [Resource], earlier: ServiceWatch, before: [InitClient.Service], logs: ServiceLogs
    ) {
        let files = Set(changed.of(FileResource.self).map(\.path))
        let services = Set(changed.of(ServiceResource.self).map(\.name))
        let states = Dictionary(before.map { ($0.name, $0) }) { $1 }
        for service in plan.values(ServiceResource.self) where !service.unit.isOnce {
            let own = service.configurationFiles + service.reloadFiles
            let isChanged = services.contains(service.name) || !files.isDisjoint(with: own)
            let (old, state) = (earlier.watched[service.name], states[service.name])
            guard isChanged || old?.isGood == false || state?.state == "running" else { continue }
            watched[service.name] = Watched(
                resource: service, oldPID: state?.pid ?? 0, mark: old?.mark ?? logs.end(of: service.name),
                restarts: old?.restarts ?? state?.restarts ?? 0)
        }
    }

    var isEmpty: Bool { watched.isEmpty }
    var names: [String] { watched.keys.sorted() }
    var isGood: Bool { watched.values.allSatisfy(\.isGood) }

    func mark(of name: String) -> ServiceLogs.Mark? { watched[name]?.mark }
    func resource(_ name: String) -> ServiceResource? { watched[name]?.resource }

    /// When PID 1 is to be asked, in milliseconds of the kernel's time; nil for never.
    var due: Int? { isEmpty ? nil : dueAt }

    /// Watches a service no longer.
    mutating func excuse(_ name: String) { watched[name] = nil }

    /// Keeps only services that are still planned.
    mutating func keep(_ plan: Plan) {
        for name in watched.keys where plan.resources[ResourceKey(ServiceResource.kind, name)] == nil { excuse(name) }
    }

    /// Takes the present states of all services.
    ///
    /// - Parameter now: milliseconds of the kernel's time.
    /// - Returns: the services for which the commit fails, by name.
    mutating func take(_ services: [InitClient.Service], now: Int) -> [Failure] {
        var failures: [Failure] = []
        let states = Dictionary(services.map { ($0.name, $0) }) { $1 }
        for name in names {
            guard var known = watched[name] else { continue }
            if let state = states[name] { known.take(state, now: now) }
            if now - begin >= Self.patience, known.run == nil { known.isGood = true }
            watched[name] = known
            guard let state = states[name], let exits = known.failure(state) else { continue }
            failures.append(Failure(name: name, reason: state.lastEnd, exits: exits))
        }
        dueAt = now + (isGood ? Self.longInterval : Self.interval)
        return failures
    }
}

extension ServiceWatch.Watched {
    fileprivate mutating func take(_ state: InitClient.Service, now: Int) {
        switch state.state {
        case "stopping":
            // It counts from 0 when it has been replaced.
            run = nil
            return
        case "stopped", "ended", "replaced":
            // An operator's deed, or a condition of its unit.
            isGood = true
        case "running":
            if run?.pid != state.pid {
                forgiveCleanEnd(state, now)
                run = (state.pid, now)
            }
        default:
            forgiveCleanEnd(state, now)
            run = nil
        }
        // PID 1 counts a unit that changed from 0.
        restarts = min(restarts, state.restarts)
        guard let run else { return }
        let isReady = resource.unit.readiness != .started && state.pid != oldPID
        if isReady || now - run.since >= ServiceWatch.look { isGood = true }
        if now - run.since >= ServiceWatch.soundRun { restarts = state.restarts }
    }

    /// A session at a console ends so.
    private mutating func forgiveCleanEnd(_ state: InitClient.Service, _ now: Int) {
        guard let run, now - run.since >= ServiceWatch.look, state.lastEnd == "ended with 0" else { return }
        restarts = state.restarts
    }

    /// The exits in a row for which the commit fails; nil for none.
    fileprivate func failure(_ state: InitClient.Service) -> Int? {
        guard !["stopping", "stopped", "ended", "replaced"].contains(state.state) else { return nil }
        let exits = state.restarts - restarts
        let isNeverReady = exits > 0 && state.lastEnd == "never ready"
        return exits >= ServiceWatch.mostExits || isNeverReady ? exits : nil
    }
}
