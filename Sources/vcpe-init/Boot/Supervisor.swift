import CSystem
import Callers
import Clocks
import Glibc

/// The second half of a start, and all of the life of the box: PID 1 in the verified root.
struct Supervisor {
    /// A good start that has run this long was no accident.
    private static let soundAfter = 600_000
    /// How long all services together have to end in order.
    private static let stopDeadline = 30_000
    /// What the command line's times may be.
    private static let seconds = 0...86_400

    private var table = ServiceTable()
    private var control = ControlSocket()
    private let notifications = Notifications()
    private let systemLog = SystemLog()
    /// Pipes of services that epoll watches.
    private var watchedPipes: Set<Int32> = []
    private var boot: [String: String] = [:]
    private var times: [(String, Int)] = []
    private var image: [String: String] = [:]
    private let epoll = csystem_epoll_create()
    private var signals: Int32 = -1
    private var hotplug: Hotplug?
    private var buttons = PowerButtons()
    /// When PID 1 came to the root, in milliseconds of the kernel's time.
    private var begin = 0
    private var goodAt = 0
    private var nextShell: Int?
    private var isGood = false
    private var isSound = false
    /// The release that was started is new: it must be found good by then, or the box starts anew.
    private var trialEnd = 0
    private var isOnTrial: Bool { boot["trial"] == "yes" && !isGood }
    private var hasFailed = false
    private var isStopping = false
    /// Looks whether this start is good.
    private var judge: pid_t = 0
    private var preload: pid_t = 0
    private var shell: pid_t = 0

    /// Never returns.
    mutating func run() -> Never {
        begin = Uptime.milliseconds
        goodAt = begin + (CommandLineOption.number("vcpe.good-after", Self.seconds) ?? 30) * 1000
        // The modes below are meant as they stand; children get the usual mask back.
        umask(0)
        // A disk that dies must not take PID 1's own program away page by page.
        csystem_stay_in_memory()
        csystem_take_ctrl_alt_del()
        readBoot()
        HardwareWatchdog.adopt(boot["watchdog"])
        trialEnd = begin + (CommandLineOption.number("vcpe.trial", Self.seconds) ?? 600) * 1000
        signals = csystem_signal_descriptor(
            [SIGCHLD, SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGPWR, SIGHUP].reduce(0) { $0 | 1 << UInt64($1) })
        csystem_epoll_add(epoll, signals)
        Preparation(imageName: image["name"]).run()
        csystem_epoll_add(epoll, control.listener)
        csystem_epoll_add(epoll, notifications.descriptor)
        csystem_epoll_add(epoll, systemLog.descriptor)
        let hotplug = Hotplug(image: image, disk: boot["disk"])
        if hotplug.events >= 0 { csystem_epoll_add(epoll, hotplug.events) }
        self.hotplug = hotplug
        // What the packet path needs, all at once: the kernel would ask for it piece by piece, a
        // process each time.
        preload = (try? Child.start("/usr/lib/vcpe/vcpe-init", [], name: "preload")) ?? 0
        self.hotplug?.start()
        startServices()
        times.append(("services", Uptime.milliseconds - begin))
        showBanner()
        while true { step() }
    }

    // MARK: - Setting up

    private mutating func readBoot() {
        for line in Text.lines("/run/vcpe/boot") {
            let words = line.split(separator: " ", maxSplits: 1).map(String.init)
            guard words.count == 2 else { continue }
            if words[0] == "time" {
                let pair = words[1].split(separator: " ")
                if pair.count == 2 { times.append((String(pair[0]), Int(pair[1]) ?? 0)) }
            } else {
                boot[words[0]] = words[1]
            }
        }
        for line in Text.lines("/usr/lib/vcpe/image") {
            let words = line.split(separator: " ", maxSplits: 1).map(String.init)
            if words.count == 2 { image[words[0]] = words[1] }
        }
    }

    // MARK: - Services

    private mutating func startServices() {
        for problem in table.reload() { Console.sayEverywhere("\(problem)") }
        if preload > 0 { _ = Child.wait(preload) }
        repeat { table.step() } while table.hasNext
        watchPipes()
        if CommandLineOption.isDebug { startShell() }
    }

    /// Has epoll tell of what services write.
    private mutating func watchPipes() {
        let pipes = Set(table.services.map(\.pipe).filter { $0 >= 0 })
        // A number that was closed and is somebody else's now is watched anew: epoll forgot it with
        // the closing.
        for pipe in pipes { csystem_epoll_add(epoll, pipe) }
        watchedPipes = pipes
    }

    /// A shell on the console, in debug images only.
    private mutating func startShell() {
        guard access("/bin/sh", X_OK) == 0 else { return }
        let console = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC)
        guard console >= 0 else { return }
        defer { close(console) }
        shell =
            (try? Child.start(
                "/bin/sh", [], name: "-sh", environment: ["HOME=/root", "TERM=linux"],
                as: .init(output: console, input: console))) ?? 0
    }

    private func showBanner() {
        let slot = boot["slot"] ?? "?"
        let phases = times.map { "\($0.0) \($0.1) ms" }.joined(separator: ", ")
        Console.sayEverywhere(
            "\(image["name"] ?? "vcpe") \(image["version"] ?? "") (\(image["profile"] ?? "")), slot \(slot), up after "
                + "\(Uptime.milliseconds) ms: \(phases)")
        EventPort.send(
            "up",
            [
                ("name", image["name"] ?? ""), ("version", image["version"] ?? ""), ("slot", slot),
                ("entry", boot["entry"] ?? ""), ("secure-boot", boot["secure-boot"] ?? ""),
                ("disk", boot["disk"] ?? ""), ("data", boot["data"] ?? ""),
                ("machine-id", String(Text.read("/run/vcpe/machine-id").prefix(32))),
                (
                    "services",
                    table.services.map { "\($0.unit.name):\($0.isAlive ? "running" : "down")" }.joined(separator: " ")
                ),
                ("phases", phases),
            ])
    }

    // MARK: - Living

    /// Waits for the next thing to happen, and does it.
    private mutating func step() {
        var due = [table.due, HardwareWatchdog.due, nextShell].compactMap { $0 }
        if !isGood, judge == 0 { due.append(goodAt) }
        if isOnTrial { due.append(trialEnd) }
        if isGood, !isSound { due.append(goodAt + Self.soundAfter) }
        if control.deafUntil > 0 { due.append(control.deafUntil) }
        if let time = hotplug?.due, table.isSound { due.append(time) }
        let now = Uptime.milliseconds
        let wait = due.min().map { max(0, min($0 - now, 3_600_000)) } ?? 3_600_000
        var ready = [Int32](repeating: -1, count: 32)
        let count = csystem_epoll_wait(epoll, &ready, 32, Int32(clamping: wait))
        // Without epoll there is still the clock: never spin.
        if count < 0, errno != EINTR { Uptime.sleep(milliseconds: 100) }
        for descriptor in ready.prefix(max(0, Int(count))) { attend(descriptor) }
        table.step()
        watchPipes()
        HardwareWatchdog.feed()
        if control.deafUntil > 0, Uptime.milliseconds >= control.deafUntil { control.listenAgain(epoll) }
        if let next = nextShell, Uptime.milliseconds >= next {
            nextShell = nil
            startShell()
        }
        if table.isSound { hotplug?.step() }
        // What the box can't do without must be there: a start without it is none.
        if !isGood, judge == 0, Uptime.milliseconds >= goodAt {
            if table.isSound { startJudge() } else { goodAt = Uptime.milliseconds + 1000 }
        }
        if isOnTrial, Uptime.milliseconds >= trialEnd {
            failTrial("it was not found good within \((trialEnd - begin) / 1000) s: \(verdict ?? table.complaint)")
        }
        if isGood, !isSound, Uptime.milliseconds >= goodAt + Self.soundAfter { declareGood(isSound: true) }
    }

    private mutating func attend(_ descriptor: Int32) {
        if descriptor == signals {
            var sender: pid_t = 0
            while case let signal = csystem_read_signal(signals, &sender), signal != 0 { handle(signal, from: sender) }
        } else if descriptor == notifications.descriptor {
            readNotifications()
        } else if descriptor == systemLog.descriptor {
            readSystemLog()
        } else if descriptor == control.listener {
            control.accept(epoll)
        } else if control.isConnection(descriptor) {
            answer(descriptor)
        } else if descriptor == hotplug?.events {
            if hotplug?.readEvents() == true { buttons.open(epoll) }
        } else if watchedPipes.contains(descriptor) {
            table.readLog(descriptor)
        } else if buttons.wasPressed(descriptor, epoll) {
            stop(powerOff: true, why: "the power button")
        }
    }

    /// Handles messages of services, a limited number: a service may send without end.
    private mutating func readNotifications() {
        for _ in 0..<64 {
            guard let message = notifications.next() else { break }
            table.notified(by: message.sender, message.text)
        }
    }

    private mutating func readSystemLog() {
        for _ in 0..<64 {
            guard let message = systemLog.next() else { break }
            table.logged(by: message.sender, message.text)
        }
    }

    /// Answers a request of the control socket.
    private mutating func answer(_ connection: Int32) {
        guard let (request, caller) = control.request(connection, epoll) else { return }
        let words = request.split(whereSeparator: { " \n".contains($0) }).prefix(4).map(String.init)
        let isStop = words == ["poweroff"] || words == ["reboot"]
        guard caller.holds(.`init`, table.unit) || isStop && caller.holds(.power, table.unit) else {
            table.note(refusalOf: words.first ?? "", to: caller)
            return control.answer(connection, "error \(caller.description) has no access to PID 1\n", epoll)
        }
        if isStop {
            control.answer(connection, "ok\n", epoll)
            stop(powerOff: words[0] == "poweroff", why: "a request")
        }
        control.answer(connection, table.answer(words), epoll)
    }

    /// - Parameter sender: 0 for the kernel, and for a process of an outer namespace.
    private mutating func handle(_ signal: Int32, from sender: pid_t) {
        if signal == SIGCHLD { return reap() }
        // A daemon that is root may send signals to PID 1, too. One that may have the box stopped
        // asks the socket, where the kernel tells which process it is.
        guard sender == 0 || sender > 0 && isTrusted(sender) else { return }
        switch signal {
        case StopRequest.powerOffSignal, SIGPWR: stop(powerOff: true, why: "a request")
        case StopRequest.rebootSignal, SIGINT: stop(powerOff: false, why: "a request")
        default: break
        }
    }

    /// A process of an outer namespace has no number here: the kernel gives 0 for it, as for
    /// itself. A program of a debug image's shell may have exited before PID 1 reads its cgroup.
    private func isTrusted(_ sender: pid_t) -> Bool {
        let origin = Caller.origin(of: sender)
        return origin == .system || origin == .unknown && CommandLineOption.isDebug
    }

    private mutating func reap() {
        var status: Int32 = 0
        while case let pid = waitpid(-1, &status, WNOHANG), pid > 0 {
            if pid == hotplug?.coldplug {
                hotplug?.ended(status)
                buttons.open(epoll)
                HardwareWatchdog.open()
                EventPort.send("coldplugged", [("network", NetworkCards.summary)])
            } else if pid == judge {
                judged(status)
            } else if pid == shell {
                // One that can't live is not started as fast as it dies.
                nextShell = Uptime.milliseconds + 1000
            } else {
                _ = table.ended(pid, status)
            }
        }
    }

    // MARK: - Judging the start

    /// Has every block of the root read, and a new release looked at by who installs them.
    private mutating func startJudge() {
        let updater = "/usr/lib/vcpe/vcpe-updater"
        judge =
            (try? access(updater, X_OK) == 0
                ? Child.start(updater, ["settle"]) : Child.start("/usr/lib/vcpe/vcpe-init", [], name: "verify")) ?? 0
        if judge == 0 { goodAt = Uptime.milliseconds + 1000 }
    }

    /// What the examination has to say of a release that isn't good.
    private var verdict: String? {
        Text.read("/run/vcpe/verdict").split(separator: "\n").first.map(String.init)
    }

    /// The examination ended with 2: the loader could not count this start, but the release is new.
    private static let isOnTrialAfterAll: Int32 = 2 << 8

    private mutating func judged(_ status: Int32) {
        judge = 0
        if status == 0 { return declareGood(isSound: false) }
        // An operator who powers the box off while the examination runs gets just that.
        if isStopping { return }
        let reason = verdict ?? "its examination ended with status \(status)"
        if isOnTrial || status == Self.isOnTrialAfterAll { failTrial(reason) }
        Console.say("this start can't be found good: \(reason)")
        goodAt = Uptime.milliseconds + 60_000
    }

    /// A new release that isn't good is given up for this time: the loader counts, and goes back to
    /// the old one.
    private mutating func failTrial(_ reason: String) -> Never {
        EventPort.send("trial-failed", [("reason", reason)])
        hasFailed = true
        LastWords.keep(reason, release: "\(image["name"] ?? "") \(image["version"] ?? "")")
        if let path = boot["state"], !path.isEmpty {
            var record = StateRecord(path: path)
            record.reason = reason
            try? record.save()
        }
        stop(powerOff: false, why: "the new release is not good: \(reason)")
    }

    /// Notes on the state partition that this start was good; when `isSound`, also that it was no
    /// accident.
    private mutating func declareGood(isSound: Bool) {
        (isGood, self.isSound) = (true, isSound)
        guard let path = boot["state"], !path.isEmpty else { return }
        var record = StateRecord(path: path)
        if record.failedStarts == 0, !isSound || record.suddenEnds == 0 { return }
        record.failedStarts = 0
        record.jumps = 0
        record.reason = ""
        if isSound { record.suddenEnds = 0 }
        do {
            try record.save()
            EventPort.send("good", [("sound", isSound ? "yes" : "no")])
        } catch {
            Console.say("the start can't be noted as good: \(error)")
        }
    }

    /// A start that was ended in order was no failed one; what the ones before it were, it says
    /// only when it was good. Of a release on trial it says nothing, and it was a failed one where
    /// that is what ended it: the loader may not have counted it.
    private mutating func noteOrderlyEnd() {
        if isGood { return declareGood(isSound: true) }
        guard !isOnTrial, !hasFailed, let path = boot["state"], !path.isEmpty else { return }
        var record = StateRecord(path: path)
        record.suddenEnds = 0
        record.failedStarts -= min(1, record.failedStarts)
        do { try record.save() } catch { Console.say("the start's end can't be noted: \(error)") }
    }

    // MARK: - Stopping

    private mutating func stop(powerOff: Bool, why: String) -> Never {
        isStopping = true
        Console.sayEverywhere("\(powerOff ? "powering off" : "restarting"): \(why)")
        EventPort.send("stopping", [("power-off", powerOff ? "yes" : "no")])
        if shell > 0 { kill(shell, SIGHUP) }
        let end = Uptime.milliseconds + Self.stopDeadline
        while !table.stopAll(), Uptime.milliseconds < end {
            for pipe in watchedPipes { table.readLog(pipe) }
            // A service that reports its end waits until its message is read.
            readNotifications()
            readSystemLog()
            HardwareWatchdog.feed()
            Uptime.sleep(milliseconds: 10)
            reap()
        }
        table.killAll()
        kill(-1, SIGTERM)
        Uptime.sleep(milliseconds: 100)
        kill(-1, SIGKILL)
        // A process that is still ending holds its files, and /data with them.
        let gone = Uptime.milliseconds + 3000
        while waitpid(-1, nil, WNOHANG) >= 0, Uptime.milliseconds < gone { Uptime.sleep(milliseconds: 10) }
        RandomSeed.save()
        noteOrderlyEnd()
        sync()
        if umount2("/data", 0) != 0 {
            Console.say("\(Failure("umount", "/data"))")
            if mount(nil, "/data", nil, UInt(MS_REMOUNT | MS_RDONLY), nil) != 0 { sync() }
        }
        Stop.now(powerOff: powerOff)
    }
}
