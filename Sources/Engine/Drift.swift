import Netlink
import Planning
import PluginKit

/// What of ours others have changed: noticed by the kernel's word, or by looking where it says none.
struct Drift {
    private var mustLookAtNetwork = false
    private var mustLookAtRest = false
    /// What was found last, so that it is said once.
    fileprivate(set) var found: [String] = []
    /// How often in a row each thing was put right and did not last; each time lets more time go by before the next.
    fileprivate var repairs: [String: Int] = [:]
    fileprivate var quietUntil = 0
    /// What plugins' drivers observe.
    var programs = DriverDrift()

    /// Nothing is known of what a transaction may have changed.
    var afterChange: Drift {
        programs.planHasChanged()
        return Drift(programs: programs)
    }

    mutating func heard(_ changes: Set<Monitor.Change>) { mustLookAtNetwork = mustLookAtNetwork || !changes.isEmpty }

    /// Has what no note tells of be looked at.
    mutating func look() { mustLookAtRest = true }

    /// What to look at now.
    fileprivate mutating func take() -> (network: Bool, rest: Bool)? {
        // What is known to be otherwise is looked at until it isn't.
        let wanted = (network: mustLookAtNetwork || !found.isEmpty, rest: mustLookAtRest)
        guard wanted.network || wanted.rest, Uptime.milliseconds >= quietUntil else { return nil }
        (mustLookAtNetwork, mustLookAtRest) = (false, false)
        return wanted
    }
}

extension Engine {
    private static let longestQuiet = 60_000

    /// Looks at what may have changed, says what has, and puts it right where the configuration wants that.
    func mendDrift() {
        // A box that stands on no whole plan has other troubles.
        guard trouble == nil, applied.isSettled, let wanted = drift.take() else { return }
        let found: [String]
        do {
            found = try differences(network: wanted.network, rest: wanted.rest)
        } catch {
            return Log.say("whether others have changed something can't be seen: \(error)")
        }
        guard !found.isEmpty else {
            if wanted.network, wanted.rest { (drift.found, drift.repairs) = ([], [:]) }
            return
        }
        let mode = driftSetting
        if found != drift.found { for line in found { Log.say("drift: \(line)") } }
        guard mode == .repair else {
            drift.found = found
            return
        }
        var repairs = drift.repairs
        for line in found { repairs[line, default: 0] += 1 }
        do {
            try apply(applied.plan)
            Log.say("drift: put right")
        } catch {
            Log.say("drift: it can't be put right: \(error)")
            // It is trouble, and tried again.
            settle(error)
        }
        // Applying forgets what was found; somebody who changes it again and again shall not keep the box busy.
        (drift.repairs, drift.found) = (repairs, found)
        let most = found.compactMap { repairs[$0] }.max() ?? 0
        drift.quietUntil = Uptime.milliseconds + (most < 5 ? 0 : min(Self.longestQuiet, 1000 << min(most - 5, 6)))
    }

    var driftSetting: SettingResource.Drift {
        for case .drift(let drift) in applied.plan.values(SettingResource.self) { return drift }
        return .repair
    }

    /// Differences from the active plan.
    private func differences(network: Bool, rest: Bool) throws -> [String] {
        let context = DriverContext(
            places: places, socket: routes, filter: nftables, secrets: secrets, now: { [clock] in clock.now })
        return try (network ? Drivers.drift(context, from: applied.plan, .netlink) : [])
            + (rest ? Drivers.drift(context, from: applied.plan, .polling) : [])
            + (rest ? drift.programs.look(driverPrograms, at: applied.plan) : [])
    }
}

extension Plan {
    /// The text of every console.
    var notice: String? {
        for case .notice(let text) in values(SettingResource.self) { return text }
        return nil
    }
}
