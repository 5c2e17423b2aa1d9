import Clocks
import Glibc
import Units

/// What is due, and reloading.
extension SupervisedService {
    /// Has the service read its configuration again, by its unit's `reload`; one that does not run
    /// reads it when it starts, and one that isn't ready is told when it is.
    mutating func reloadConfiguration() {
        guard isAlive, state == .running || state == .starting, unit.reload != nil else { return }
        reload.isPending = state == .starting || reload.pid > 0
        if reload.isPending { return }
        switch unit.reload {
        case nil: break
        case .signal(let signal):
            if pid > 0 { Glibc.kill(pid, signal.number) }
            reload.done()
        case .command(let command):
            do {
                reload.started(try startBeside(command))
            } catch {
                reloadFailed(error.description)
                reload.failed(error.description)
            }
        }
    }

    /// Handles the exit of the reload's command.
    mutating func reloadEnded(_ status: Int32) {
        guard case .command(let command) = unit.reload else { return }
        if let reason = reload.ended(Self.code(status), of: command) {
            reloadFailed(reason)
        } else {
            EventPort.send("service-reloaded", [("name", unit.name)])
        }
        if reload.isPending { reloadConfiguration() }
    }

    func reloadFailed(_ reason: String) {
        Console.say("service \(unit.name): reload: \(reason)")
        EventPort.send("service-reload-failed", [("name", unit.name), ("reason", reason)])
    }

    /// When something is due, in milliseconds since the kernel's start; nil for never.
    var due: Int? {
        let own: Int? =
            switch state {
            case .pausing, .failed: nextStart
            case .stopping: isLeaderless ? min(stopAt, Uptime.milliseconds + 50) : stopAt
            // A file that says so has to be looked for.
            case .starting: Uptime.milliseconds + 50
            case .running: unit.watchdog.map { lastSign + $0 * 1000 }
            case .waiting, .ended, .replaced, .stopped: nil
            }
        return [own, reload.due, recoversAt].compactMap { $0 }.min()
    }

    var recoversAt: Int? { state == .running ? delay.recovery(startedAt: startedAt) : nil }

    /// Does what is due.
    mutating func check() {
        let now = Uptime.milliseconds
        reload.check()
        if let recoversAt, now >= recoversAt { recover() }
        switch state {
        case .pausing where now >= nextStart, .failed where now >= nextStart: state = .waiting
        case .stopping where isLeaderless && members?.isEmpty != false: finish(0)
        case .stopping where now >= stopAt:
            say(" doesn't end: killed")
            kill()
            stopAt = now + 1000
        case .starting:
            if isLeaderless {
                if let main = daemon(mayGuess: false) { return adopt(main) }
                if members?.isEmpty != false { return finish(0) }
            }
            if isUnready, case .file(let path) = unit.readiness, access(path, F_OK) == 0 {
                complete()
            } else if now >= startedAt + unit.readyTimeout * 1000 {
                say(" isn't ready after \(unit.readyTimeout) s: killed")
                status = Self.neverReady
                kill()
            }
        case .running:
            if let watchdog = unit.watchdog, now >= lastSign + watchdog * 1000 {
                say(" gives no sign of life for \(watchdog) s: killed")
                status = "no sign of life"
                lastSign = now
                kill()
            }
        default: break
        }
    }
}
