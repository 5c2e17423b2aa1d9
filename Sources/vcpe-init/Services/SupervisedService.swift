import CSystem
import Clocks
import Glibc
import Units

/// A service that PID 1 keeps running.
struct SupervisedService {
    enum State: String {
        /// It waits until the services in `after` are ready.
        case waiting
        /// It runs, and isn't ready.
        case starting
        /// It runs and is ready.
        case running
        /// It was asked to end.
        case stopping
        /// It ended, and is started again after a delay.
        case pausing
        /// It ended, and is not started again.
        case ended
        /// It ended because its unit was replaced or removed.
        case replaced
        /// An operator stopped it.
        case stopped
        /// It exited many times in a row; it is tried every ten minutes.
        case failed
    }

    let unit: Unit
    var state = State.waiting
    var pid: pid_t = 0
    /// The process of the completion that runs; 0 for none.
    var completionPid: pid_t = 0
    var completion = 0
    var restarts = 0
    /// Its last `STATUS=`, or why it ended.
    var status = ""
    /// Why it ended last without being asked to.
    var lastEnd = ""
    /// The reading end of its log's pipe; -1 for none.
    var pipe: Int32 = -1
    /// The pipe's other end, for further commands; -1 for none.
    var output: Int32 = -1
    var log: ServiceLog
    var startedAt = 0
    /// Counts the unit's preparations; beyond the last one the service's own command runs.
    var step = 0
    var lastSign = 0
    var stopAt = 0
    var nextStart = 0
    var delay = RestartDelay()
    var reload = ServiceReload()
    /// Its state after it has ended.
    var afterStop = State.stopped

    init(_ unit: Unit) {
        self.unit = unit
        log = ServiceLog(unit.name)
    }

    var cgroup: String { "\(Cgroup.services)/\(unit.name)" }

    /// The group has processes, but the main process is not known: a daemon that has not written
    /// its pid file, or the rest of a service that stops.
    var isLeaderless = false

    /// A service that was reported as failed is not reported again at each try.
    func say(_ text: String) {
        if !delay.isReported { Console.say("service \(unit.name)\(text)") }
    }

    var isAlive: Bool { pid > 0 || isLeaderless || completionPid > 0 }

    var isBeingReplaced: Bool { state == .stopping && afterStop == .replaced }

    // MARK: - Starting

    /// Starts the service: its first preparation, or its command. A failure counts like an exit.
    mutating func start() {
        startedAt = Uptime.milliseconds
        lastSign = startedAt
        (step, completion) = (0, 0)
        if let condition = unit.conditions.first(where: { !$0.isMet }) {
            status = "condition not met: \(condition)"
            state = .ended
            EventPort.send("service-skipped", [("name", unit.name), ("reason", status)])
            return
        }
        for folder in unit.directories {
            do {
                try OwnedFolder.make(folder, user: unit.user, group: unit.group)
            } catch {
                say(": \(error)")
            }
        }
        if case .file(let path) = unit.readiness { OwnedFolder.removeFile(path) }
        if case .forked(let path?) = unit.readiness { OwnedFolder.removeFile(path) }
        launch()
    }

    /// The preparation that runs; nil once the service's own command does.
    var preparation: Unit.Command? {
        step < unit.before.count ? unit.before[step] : nil
    }

    /// The unit has commands that write to the log beside the service's own.
    var hasFurtherCommands: Bool { !unit.afterStart.isEmpty || hasReloadCommand }

    var hasReloadCommand: Bool { if case .command = unit.reload { true } else { false } }

    /// Starts the process of the current step.
    mutating func launch() {
        closePipe()
        var group: Int32 = -1
        var ends: [Int32] = [-1, -1]
        if csystem_pipe(&ends) != 0 { ends = [-1, -1] }
        // A daemon may open its own output anew, as /dev/stdout.
        if ends[1] >= 0, unit.user != 0 { fchown(ends[1], unit.user, unit.group) }
        defer {
            if group >= 0 { close(group) }
            if ends[1] >= 0 { close(ends[1]) }
        }
        do {
            group = try Cgroup.open(cgroup, run: "\(startedAt)-\(step)", unit: unit)
            pid = try unit.start(
                preparation ?? Unit.Command(unit.command), main: 0, cgroup: group, output: ends[1])
            pipe = ends[0]
            status = ""
            let isReady = preparation == nil && unit.readiness == .started
            if preparation == nil {
                reload.isPending = false
                if hasFurtherCommands { output = fcntl(ends[1], F_DUPFD_CLOEXEC, 0) }
            }
            if preparation == nil, !unit.afterStart.isEmpty {
                state = .starting
                if isReady { complete() }
            } else {
                state = isReady ? .running : .starting
            }
            lastSign = Uptime.milliseconds
        } catch {
            if ends[0] >= 0 { close(ends[0]) }
            say(": \(error)")
            if preparation?.mayFail == true {
                step += 1
                return launch()
            }
            EventPort.send("service-failed", [("name", unit.name), ("reason", error.description)])
            status = error.description
            pause()
        }
    }

    /// Runs the next completion, or declares the service ready after the last.
    mutating func complete() {
        guard completion < unit.afterStart.count else {
            if !hasReloadCommand || unit.readiness == .exited { closeOutput() }
            guard state == .starting else { return }
            becomeReady()
            if unit.readiness == .exited {
                state = .ended
                recover()
                Text.write("1", to: "\(cgroup)/cgroup.kill")
            }
            return
        }
        let command = unit.afterStart[completion]
        do {
            completionPid = try startBeside(command)
        } catch {
            if command.mayFail {
                completion += 1
                return complete()
            }
            completionFailed(error.description)
        }
    }

    /// Starts a command in the cgroup of the service that runs.
    func startBeside(_ command: Unit.Command) throws(Failure) -> pid_t {
        let group = open(runGroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        defer { if group >= 0 { close(group) } }
        guard group >= 0 || !Cgroup.exists else { throw Failure("open", runGroup) }
        return try unit.start(command, main: pid, cgroup: group, output: output)
    }

    /// Handles the exit of a completion.
    mutating func completionEnded(_ status: Int32) {
        completionPid = 0
        guard state == .starting, completion < unit.afterStart.count else {
            // Of a service whose command has ended, this was the last process.
            if state == .stopping, !isAlive { finish(0) }
            return
        }
        let command = unit.afterStart[completion]
        let code = Self.code(status)
        if code == 0 || command.mayFail {
            completion += 1
            complete()
        } else {
            completionFailed("\(command.words[0]) ended with \(code)")
        }
    }

    /// A service whose completion failed did not start: it ends, and is started again as after a
    /// crash.
    mutating func completionFailed(_ reason: String) {
        say(": \(reason)")
        status = reason
        completion = unit.afterStart.count + 1
        if isAlive { kill() } else { finish(1) }
    }

    var runGroup: String { "\(cgroup)/run-\(startedAt)-\(step)" }

    mutating func closeOutput() {
        if output >= 0 { close(output) }
        output = -1
    }

    // MARK: - Signs of life

    /// Takes what it said on the notify socket.
    mutating func notified(_ message: String) {
        for line in message.split(separator: "\n") {
            if line == "READY=1", unit.readiness == .notify, isUnready { complete() }
            if line == "WATCHDOG=1" { lastSign = Uptime.milliseconds }
            if line.hasPrefix("STATUS=") {
                status = String(line.dropFirst(7).prefix(200))
                EventPort.send("service-status", [("name", unit.name), ("status", status)])
            }
        }
    }

    /// The service's own command runs, and is not ready.
    var isUnready: Bool {
        state == .starting && preparation == nil && completion == 0 && completionPid == 0
    }

    mutating func becomeReady() {
        state = .running
        lastSign = Uptime.milliseconds
        EventPort.send("service-ready", [("name", unit.name)])
        if reload.isPending { reloadConfiguration() }
    }

    /// Takes a message that it sent to syslog.
    mutating func logged(_ text: [UInt8]) { log.append(text[...]) }

    /// Takes what it wrote.
    mutating func readLog() {
        if pipe >= 0, !log.take(from: pipe) { closePipe() }
    }

    mutating func closePipe() {
        // What is still in it is kept; its end is of no interest.
        if pipe >= 0 {
            _ = log.take(from: pipe)
            close(pipe)
        }
        pipe = -1
        closeOutput()
    }

    /// Bytes that it and all it started use, as far as the kernel counts them.
    var memory: Int { Int(Text.read("\(cgroup)/memory.current").prefix { $0.isNumber }) ?? 0 }
}
