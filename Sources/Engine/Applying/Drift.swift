import Netlink
import Planning
import PluginKit

/// What other programs have changed of the engine's objects: known from the kernel's notifications,
/// or read where it sends none.
struct Drift {
    private var mustLookAtNetwork = false
    private var mustLookAtRest = false
    /// The differences of the last inspection: each is reported once.
    private(set) var found: [String] = []
    /// How often in a row each difference was repaired.
    private var repairs: [String: Int] = [:]
    private var quietUntil = 0
    /// What plugins' drivers observe.
    var programs = DriverDrift()

    /// Without what a transaction may have changed.
    var afterChange: Drift {
        programs.planHasChanged()
        return Drift(programs: programs)
    }

    mutating func heard(_ changes: Set<Monitor.Change>) { mustLookAtNetwork = mustLookAtNetwork || !changes.isEmpty }

    /// Has the objects inspected of which the kernel sends no notifications.
    mutating func look() { mustLookAtRest = true }

    /// What to read now.
    mutating func take() -> (network: Bool, rest: Bool)? {
        // A difference is inspected until it is gone.
        let wanted = (network: mustLookAtNetwork || !found.isEmpty, rest: mustLookAtRest)
        guard wanted.network || wanted.rest, Uptime.milliseconds >= quietUntil else { return nil }
        (mustLookAtNetwork, mustLookAtRest) = (false, false)
        return wanted
    }

    mutating func nothingFound() { (found, repairs) = ([], [:]) }

    mutating func reported(_ lines: [String]) { found = lines }

    /// Notes a repair, successful or not: one that does not last lets more time pass before the
    /// next.
    mutating func repaired(_ lines: [String]) {
        found = lines
        for line in lines { repairs[line, default: 0] += 1 }
        let most = lines.compactMap { repairs[$0] }.max() ?? 0
        quietUntil = Uptime.milliseconds + (most < 5 ? 0 : min(Self.longestQuiet, 1000 << min(most - 5, 6)))
    }

    private static let longestQuiet = 60_000
}

extension Plan {
    /// The text of every console.
    var notice: String? {
        for case .notice(let text) in values(SettingResource.self) { return text }
        return nil
    }
}
