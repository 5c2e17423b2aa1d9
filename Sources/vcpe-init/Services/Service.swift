import CSystem
import Glibc

/// A service that PID 1 keeps running.
struct Service {
    enum State: String {
        /// For those that it comes after.
        case waiting
        /// It runs, and isn't ready.
        case starting
        /// It runs and is ready.
        case running
        /// It was asked to end.
        case stopping
        /// It ended, and comes again after a while.
        case pausing
        /// It ended, and is not to come again by itself.
        case ended
        /// It ended for the sake of another unit of its name, or of none.
        case replaced
        /// Somebody stopped it.
        case stopped
        /// It fell too often.
        case failed
    }

    let unit: Unit
    private(set) var state = State.waiting
    private(set) var pid: pid_t = 0
    /// The process of the completion that runs; 0 for none.
    private(set) var completionPid: pid_t = 0
    private var completion = 0
    private(set) var restarts = 0
    /// What it last said of itself (`STATUS=`), or why it fell.
    private(set) var status = ""
    /// The reading end of its log's pipe; -1 for none.
    private(set) var pipe: Int32 = -1
    /// The pipe's other end, for completions; -1 for none.
    private var output: Int32 = -1
    private var log: ServiceLog
    private var startedAt = 0
    /// Counts the unit's preparations; beyond the last one the service's own command runs.
    private var step = 0
    private var lastSign = 0
    private var stopAt = 0
    private var nextStart = 0
    private var delay = 0
    /// Falls in a row that came before it had run for long.
    private var quickFalls = 0
    /// What is to become of it when it has ended.
    private var afterStop = State.stopped

    private static let firstDelay = 200
    private static let longestDelay = 60_000
    /// A service that ran this long is taken as sound again: its next fall is its first.
    private static let soundAfter = 30_000
    /// Quick falls in a row before it is given up.
    private static let mostFalls = 30

    init(_ unit: Unit) {
        self.unit = unit
        log = ServiceLog(unit.name)
    }

    private var cgroup: String { "\(Cgroup.services)/\(unit.name)" }

    /// The group has processes, but the main process is not known: a daemon that has not written
    /// its pid file, or the rest of a service that stops.
    private var isLeaderless = false

    var isAlive: Bool { pid > 0 || isLeaderless || completionPid > 0 }

    private var isBeingReplaced: Bool { state == .stopping && afterStop == .replaced }

    // MARK: - Starting

    /// Starts the service: its first preparation, or its command. A failure counts like an exit.
    mutating func start() {
        startedAt = Uptime.milliseconds
        lastSign = startedAt
        (step, completion) = (0, 0)
        if let condition = unit.conditions.first(where: { !$0.isMet }) {
            status = "condition not met: \(condition)"
            state = .ended
            Events.send("service-skipped", [("name", unit.name), ("reason", status)])
            return
        }
        for folder in unit.directories {
            do {
                try Self.makeOwned(folder, user: unit.user, group: unit.group)
            } catch {
                Console.say("service \(unit.name): \(error)")
            }
        }
        if case .file(let path) = unit.readiness { unlink(path) }
        if case .forked(let path?) = unit.readiness { unlink(path) }
        launch()
    }

    /// The preparation that runs; nil once the service's own command does.
    private var preparation: Unit.Preparation? {
        step < unit.preparations.count ? unit.preparations[step] : nil
    }

    /// Starts the process of the current step.
    private mutating func launch() {
        closePipe()
        var group: Int32 = -1
        var ends: [Int32] = [-1, -1]
        if csystem_pipe(&ends) != 0 { ends = [-1, -1] }
        defer {
            if group >= 0 { close(group) }
            if ends[1] >= 0 { close(ends[1]) }
        }
        do {
            group = try Cgroup.open(
                cgroup, run: "\(startedAt)-\(step)", memory: unit.memory, processes: unit.processes)
            pid = try run(
                preparation ?? Unit.Preparation(command: unit.command), cgroup: group, output: ends[1])
            pipe = ends[0]
            status = ""
            let isReady = preparation == nil && unit.readiness == .started
            if preparation == nil, !unit.completions.isEmpty {
                output = fcntl(ends[1], F_DUPFD_CLOEXEC, 0)
                state = .starting
                if isReady { complete() }
            } else {
                state = isReady ? .running : .starting
            }
            lastSign = Uptime.milliseconds
        } catch {
            if ends[0] >= 0 { close(ends[0]) }
            Console.say("service \(unit.name): \(error)")
            if preparation?.mayFail == true {
                step += 1
                return launch()
            }
            Events.send("service-failed", [("name", unit.name), ("reason", error.description)])
            status = error.description
            pause()
        }
    }

    /// Starts a command of the unit.
    private func run(
        _ command: Unit.Preparation, cgroup: Int32, output: Int32
    ) throws(Failure) -> pid_t {
        var environment = unit.environment + ["NOTIFY_SOCKET=\(Notifications.path)"]
        if let watchdog = unit.watchdog { environment.append("WATCHDOG_USEC=\(watchdog * 1000)") }
        if pid > 0 { environment.append("MAINPID=\(pid)") }
        var setting = Child.Setting(
            cgroup: cgroup, output: output, oomScoreAdjustment: unit.oomScoreAdjustment)
        if !command.isPrivileged {
            setting.user = unit.user
            setting.group = unit.group
            setting.groups = unit.groups
            setting.capabilities = unit.capabilities
            setting.hasNoNewPrivileges = unit.hasNoNewPrivileges
            setting.readOnlyPaths = unit.readOnlyPaths
            setting.hasPrivateTmp = unit.hasPrivateTmp
            setting.limits = unit.limits
            setting.directory = unit.workingDirectory
            setting.umask = unit.umask
        }
        let words = command.command.map { Self.substituted($0, pid: pid) }
        return try Child.start(words[0], Array(words.dropFirst()), environment: environment, as: setting)
    }

    /// A word with `${MAINPID}` replaced.
    private static func substituted(_ word: String, pid: pid_t) -> String {
        let name = Array("${MAINPID}".utf8)
        let bytes = Array(word.utf8)
        guard pid > 0, bytes.count >= name.count else { return word }
        var result: [UInt8] = []
        var i = 0
        while i < bytes.count {
            if bytes[i...].starts(with: name) {
                result += Array("\(pid)".utf8)
                i += name.count
            } else {
                result.append(bytes[i])
                i += 1
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// Runs the next completion, or declares the service ready after the last.
    private mutating func complete() {
        guard completion < unit.completions.count else {
            closeOutput()
            guard state == .starting else { return }
            becomeReady()
            if unit.readiness == .exited {
                state = .ended
                Text.write("1", to: "\(cgroup)/cgroup.kill")
            }
            return
        }
        let command = unit.completions[completion]
        do throws(Failure) {
            let group = open(runGroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            defer { if group >= 0 { close(group) } }
            guard group >= 0 || !Cgroup.exists else { throw Failure("open", runGroup) }
            completionPid = try run(command, cgroup: group, output: output)
        } catch {
            if command.mayFail {
                completion += 1
                return complete()
            }
            completionFailed(error.description)
        }
    }

    /// Handles the exit of a completion.
    mutating func completionEnded(_ status: Int32) {
        completionPid = 0
        guard state == .starting, completion < unit.completions.count else {
            // Of a service whose command has ended, this was the last process.
            if state == .stopping, !isAlive { finish(0) }
            return
        }
        let command = unit.completions[completion]
        let code = status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + (status & 0x7F)
        if code == 0 || command.mayFail {
            completion += 1
            complete()
        } else {
            completionFailed("\(command.command[0]) ended with \(code)")
        }
    }

    /// A service whose completion failed did not start: it ends, and is started again as after a
    /// crash.
    private mutating func completionFailed(_ reason: String) {
        Console.say("service \(unit.name): \(reason)")
        status = reason
        completion = unit.completions.count + 1
        if isAlive { kill() } else { finish(1) }
    }

    private var runGroup: String { "\(cgroup)/run-\(startedAt)-\(step)" }

    private mutating func closeOutput() {
        if output >= 0 { close(output) }
        output = -1
    }

    /// Makes a folder and those above it, the last one owned by the service. Links are not
    /// followed: one that the service itself put there would hand it what the link leads to.
    private static func makeOwned(_ path: String, user: UInt32, group: UInt32) throws(Failure) {
        var folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        for name in path.split(separator: "/") {
            let name = String(name)
            mkdirat(folder, name, 0o755)
            let next = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            let code = errno
            close(folder)
            guard next >= 0 else { throw Failure("open", path, code: code) }
            folder = next
        }
        defer { close(folder) }
        guard fchown(folder, user, group) == 0 else { throw Failure("fchown", path) }
    }

    // MARK: - Signs of life

    /// Takes what it said on the notify socket.
    mutating func notified(_ message: String) {
        for line in message.split(separator: "\n") {
            if line == "READY=1", unit.readiness == .notify, isUnready { complete() }
            if line == "WATCHDOG=1" { lastSign = Uptime.milliseconds }
            if line.hasPrefix("STATUS=") {
                status = String(line.dropFirst(7).prefix(200))
                Events.send("service-status", [("name", unit.name), ("status", status)])
            }
        }
    }

    /// The service's own command runs, and is not ready.
    private var isUnready: Bool {
        state == .starting && preparation == nil && completion == 0 && completionPid == 0
    }

    private mutating func becomeReady() {
        state = .running
        lastSign = Uptime.milliseconds
        Events.send("service-ready", [("name", unit.name)])
    }

    /// Takes a message that it sent to syslog.
    mutating func logged(_ text: [UInt8]) { log.append(text[...]) }

    /// Takes what it wrote.
    mutating func readLog() {
        if pipe >= 0, !log.take(from: pipe) { closePipe() }
    }

    private mutating func closePipe() {
        // What is still in it is kept; its end is of no interest.
        if pipe >= 0 {
            _ = log.take(from: pipe)
            close(pipe)
        }
        pipe = -1
        closeOutput()
    }

    // MARK: - Ending

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
        stopAt = Uptime.milliseconds + unit.stopTimeout
        if unit.stopsAll || pid <= 0 {
            // The main process gets one: some daemons hurry at the second.
            for member in members ?? [] where member != pid { Glibc.kill(member, unit.stopSignal) }
        }
        if pid > 0 { Glibc.kill(pid, unit.stopSignal) }
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
        let code = status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + (status & 0x7F)
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
            !unit.completions.isEmpty
        {
            return complete()
        }
        // The processes that it left end with it.
        if !Text.write("1", to: "\(cgroup)/cgroup.kill") { Glibc.kill(-group, SIGKILL) }
        finish(code)
    }

    /// Decides what becomes of the service when none of its processes is left.
    private mutating func finish(_ code: Int32) {
        closePipe()
        (completionPid, isLeaderless) = (0, false)
        if state == .stopping {
            state = afterStop
            nextStart = 0
            if state == .waiting { (delay, quickFalls) = (0, 0) }
            return
        }
        if let preparation, code == 0 || preparation.mayFail {
            step += 1
            launch()
            return
        }
        Events.send("service-ended", [("name", unit.name), ("code", "\(code)")])
        if case .exited = unit.readiness, preparation == nil, code == 0 {
            becomeReady()
            state = .ended
            return
        }
        // A daemon that ends before it is ready has failed, whatever its exit code is.
        let isFailure = code != 0 || preparation != nil || state == .starting
        if completion > unit.completions.count || self.status == Self.neverReady {
            // The reason was reported.
        } else if case .forked = unit.readiness, state == .starting, code == 0 {
            self.status = "it left no process"
            Console.say("service \(unit.name): it left no process")
        } else if isFailure {
            let program = preparation.map { "\($0.command[0]) " } ?? ""
            self.status = "\(program)ended with \(code)"
            Console.say("service \(unit.name): \(program)ended with \(code)")
        }
        if unit.restart == .always || unit.restart == .onFailure && isFailure { pause() } else { state = .ended }
    }

    private static let neverReady = "never ready"

    private var hasPidFile: Bool { if case .forked(_?) = unit.readiness { true } else { false } }

    /// The processes of this run; nil where the kernel has no groups.
    private var members: [pid_t]? { Cgroup.members(of: runGroup) }

    private mutating func adopt(_ main: pid_t) {
        pid = main
        isLeaderless = false
        if isUnready { complete() }
    }

    /// The main process of a service that forked: the one that its pid file names, or without a
    /// file the first of its group. Only a child of PID 1 is taken: nothing reports the exit of
    /// another one.
    private func daemon(mayGuess: Bool) -> pid_t? {
        guard case .forked(let file) = unit.readiness else { return nil }
        let members = members
        if let file {
            let text = Text.bytes(file, limit: 32, flags: O_NOFOLLOW)
            guard let named = pid_t(String(decoding: text, as: UTF8.self).prefix { $0.isNumber }), named > 1,
                members?.contains(named) ?? true, Self.isChild(named)
            else { return nil }
            return named
        }
        return mayGuess ? members?.first(where: Self.isChild) : nil
    }

    /// Whether a process is a child of PID 1 (proc_pid_stat(5)), and no zombie.
    private static func isChild(_ pid: pid_t) -> Bool {
        // The name between parentheses may have blanks and parentheses itself.
        let fields = Text.read("/proc/\(pid)/stat").split(separator: ")").last?.split(separator: " ") ?? []
        return fields.count > 1 && fields[0] != "Z" && fields[1] == "1"
    }

    /// Decides when it is started again: after twice the last delay, up to a minute, and up to a
    /// quarter more, so that services that fell together don't rise together. After thirty quick
    /// falls in a row it is given up; what the box can't do without never is.
    private mutating func pause() {
        if Uptime.milliseconds - startedAt > Self.soundAfter { (delay, quickFalls) = (0, 0) }
        quickFalls += 1
        guard quickFalls <= Self.mostFalls || unit.isEssential else {
            state = .failed
            Console.sayEverywhere(
                "service \(unit.name) fell \(Self.mostFalls) times in a row and is given up: \(status)")
            Events.send("service-given-up", [("name", unit.name)])
            return
        }
        state = .pausing
        delay = delay == 0 ? Self.firstDelay : min(delay * 2, Self.longestDelay)
        var random: UInt32 = 0
        csystem_random(&random, 4)
        nextStart = Uptime.milliseconds + delay + Int(random % UInt32(delay / 4 + 1))
        restarts += 1
    }

    /// Starts it as if it had never run, at an operator's word; one that is ending comes again when
    /// it has.
    mutating func begin() {
        if state == .stopping, !isBeingReplaced { afterStop = .waiting }
        if isAlive { return }
        (delay, quickFalls, state) = (0, 0, .waiting)
    }

    // MARK: - Time

    /// When something is due, in milliseconds since the kernel's start; nil for never.
    var due: Int? {
        switch state {
        case .pausing: nextStart
        case .stopping: isLeaderless ? min(stopAt, Uptime.milliseconds + 50) : stopAt
        // A file that says so has to be looked for.
        case .starting: Uptime.milliseconds + 50
        case .running: unit.watchdog.map { lastSign + $0 }
        case .waiting, .ended, .replaced, .stopped, .failed: nil
        }
    }

    /// Does what is due.
    mutating func check() {
        let now = Uptime.milliseconds
        switch state {
        case .pausing where now >= nextStart: state = .waiting
        case .stopping where isLeaderless && members?.isEmpty != false: finish(0)
        case .stopping where now >= stopAt:
            Console.say("service \(unit.name) doesn't end: killed")
            kill()
            stopAt = now + 1000
        case .starting:
            if isLeaderless {
                if let main = daemon(mayGuess: false) { return adopt(main) }
                if members?.isEmpty != false { return finish(0) }
            }
            if isUnready, case .file(let path) = unit.readiness, access(path, F_OK) == 0 {
                complete()
            } else if now >= startedAt + unit.readyTimeout {
                Console.say("service \(unit.name) isn't ready after \(unit.readyTimeout / 1000) s: killed")
                status = Self.neverReady
                kill()
            }
        case .running:
            if let watchdog = unit.watchdog, now >= lastSign + watchdog {
                Console.say("service \(unit.name) gives no sign of life for \(watchdog / 1000) s: killed")
                status = "no sign of life"
                lastSign = now
                kill()
            }
        default: break
        }
    }

    /// Bytes that it and all it started use, as far as the kernel counts them.
    var memory: Int { Int(Text.read("\(cgroup)/memory.current").prefix { $0.isNumber }) ?? 0 }
}
