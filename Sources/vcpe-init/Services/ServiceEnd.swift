import CSystem
import Clocks
import Glibc
import Units

/// The end of a service, asked for or not, and what follows.
extension SupervisedService {
    /// Asks it to end; what it will be then.
    mutating func stop(then next: State = .stopped) {
        // A unit that is taken away, or replaced, is no operator's any more.
        if !isBeingReplaced { afterStop = next }
        guard isAlive else {
            state = next
            return
        }
        if state == .stopping { return }
        state = .stopping
        stopAt = Uptime.milliseconds + unit.stopTimeout * 1000
        if unit.stopsAll || pid <= 0 {
            // The main process gets one: some daemons hurry at the second.
            for member in members ?? [] where member != pid { Glibc.kill(member, unit.stopSignal.number) }
        }
        if pid > 0 { Glibc.kill(pid, unit.stopSignal.number) }
    }

    /// Ends it and all that it started at once.
    func kill() {
        guard isAlive else { return }
        // Its session's processes, where cgroups can't say who they are.
        let isKilled = Text.write("1", to: "\(cgroup)/cgroup.kill")
        guard pid > 0 else { return }
        if !isKilled { Glibc.kill(-pid, SIGKILL) }
        Glibc.kill(pid, SIGKILL)
    }

    /// Handles the exit of the service's process.
    mutating func ended(_ status: Int32) {
        let group = pid
        pid = 0
        let code = Self.code(status)
        let isForking = if case .forked = unit.readiness { preparation == nil } else { false }
        if isForking, state == .running || state == .starting && code == 0 {
            if let main = daemon(mayGuess: code == 0) { return adopt(main) }
            if isUnready, hasPidFile, members?.isEmpty == false {
                isLeaderless = true
                return
            }
        }
        if state == .stopping, unit.stopsAll, members?.isEmpty == false {
            isLeaderless = true
            return
        }
        if case .exited = unit.readiness, preparation == nil, state == .starting, code == 0, completion == 0,
            !unit.afterStart.isEmpty
        {
            return complete()
        }
        // The processes that it left end with it.
        if !Text.write("1", to: "\(cgroup)/cgroup.kill") { Glibc.kill(-group, SIGKILL) }
        finish(code)
    }

    /// An exit code as a shell has it: 128 and the number of the signal.
    static func code(_ status: Int32) -> Int32 {
        status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + (status & 0x7F)
    }

    /// Decides what becomes of the service when none of its processes is left.
    mutating func finish(_ code: Int32) {
        closePipe()
        reload.cancel()
        (completionPid, isLeaderless) = (0, false)
        if state == .stopping {
            state = afterStop
            nextStart = 0
            if state == .waiting { delay = RestartDelay() }
            return
        }
        if let preparation, code == 0 || preparation.mayFail {
            step += 1
            launch()
            return
        }
        EventPort.send("service-ended", [("name", unit.name), ("code", "\(code)")])
        if case .exited = unit.readiness, preparation == nil, code == 0 {
            becomeReady()
            state = .ended
            recover()
            return
        }
        // A daemon that ends before it is ready has failed, whatever its exit code is.
        let isFailure = code != 0 || preparation != nil || state == .starting
        if completion > unit.afterStart.count || self.status == Self.neverReady {
            // The reason was reported.
        } else if case .forked = unit.readiness, state == .starting, code == 0 {
            self.status = "it left no process"
            say(": it left no process")
        } else if isFailure {
            let program = preparation.map { "\($0.words[0]) " } ?? ""
            self.status = "\(program)ended with \(code)"
            say(": \(program)ended with \(code)")
        } else {
            self.status = "ended with 0"
        }
        if unit.restart == .always || unit.restart == .onFailure && isFailure { pause() } else { state = .ended }
    }

    static let neverReady = "never ready"

    var hasPidFile: Bool { if case .forked(_?) = unit.readiness { true } else { false } }

    /// The processes of this run; nil where the kernel has no groups.
    var members: [pid_t]? { Cgroup.members(of: runGroup) }

    mutating func adopt(_ main: pid_t) {
        pid = main
        isLeaderless = false
        if isUnready { complete() }
    }

    func daemon(mayGuess: Bool) -> pid_t? {
        guard case .forked(let file) = unit.readiness else { return nil }
        return ForkedDaemon.find(pidFile: file, members: members, mayGuess: mayGuess)
    }

    /// Decides when it is started again.
    mutating func pause() {
        let now = Uptime.milliseconds
        nextStart = now + delay.next(after: now - startedAt, isEssential: unit.isEssential || unit.isNeverFailed)
        restarts += 1
        lastEnd = status
        state = delay.isFailed ? .failed : .pausing
        guard delay.isFailed, delay.report() else { return }
        Console.sayEverywhere(
            "service \(unit.name) exited 30 times in a row and is marked failed; it is tried every 10 minutes: "
                + status)
        EventPort.send("service-marked-failed", [("name", unit.name), ("reason", status)])
    }

    /// Reports that a service that was marked failed runs again.
    mutating func recover() {
        if delay.isReported {
            Console.sayEverywhere("service \(unit.name) runs again")
            EventPort.send("service-recovered", [("name", unit.name)])
        }
        delay = RestartDelay()
    }

    /// Starts it as if it had never run, as an operator told; one that is ending is started when it
    /// has ended.
    mutating func begin() {
        if state == .stopping, !isBeingReplaced { afterStop = .waiting }
        if isAlive { return }
        (delay, state) = (RestartDelay(), .waiting)
    }

    /// Starts a service that waits for its next try at once, and with the shortest delay again;
    /// leaves one alone that runs, or that an operator stopped.
    mutating func retry() {
        delay.retry()
        if state == .pausing || state == .failed { state = .waiting }
    }
}
