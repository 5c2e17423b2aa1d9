import Documents
import Glibc
import Netlink
import Planning
import PluginKit

/// When the loop's own work is due, in milliseconds of the kernel's time.
struct Timers {
    /// When links have been still for long enough to inspect their changes; nil when they are.
    var still: Int?
    var tick = Uptime.milliseconds
    var facts = Uptime.milliseconds
    var services = Uptime.milliseconds

    /// How long links must be still, how often what sends no notifications is read, and how often
    /// all facts are; in milliseconds.
    static let (stillness, interval, factsInterval) = (100, 1000, 10_000)
}

extension Engine {
    /// Follows the site and serves the sockets for ever. In each pass come timers first, then one
    /// request. No caller, plan or plugin's command makes it wait. Drivers' changes still do,
    /// within their deadlines.
    public func run() throws -> Never {
        if let reason = FactoryReset(places: places).runIfWanted() {
            audit.add(.box("box"), "factory-reset", "", .done, reason: reason)
        }
        // Before any service starts on what another release's daemons left.
        for line in try PluginStates(places: places).adopt(configuration.planner.manifests) { Log.say(line) }
        configuration.readSite()
        configuration.followNow()
        // The next engine goes on watching a pending commit.
        if configuration.head.pending != nil { health.resume() }
        // A restart of the engine, and a reboot, wait for the end of a pass: it may apply a commit.
        var ends = sigset_t()
        sigemptyset(&ends)
        sigaddset(&ends, SIGTERM)
        pthread_sigmask(SIG_BLOCK, &ends, nil)
        while true {
            pthread_sigmask(SIG_UNBLOCK, &ends, nil)
            wait()
            pthread_sigmask(SIG_BLOCK, &ends, nil)
            Notification.send("WATCHDOG=1")
            takeInput()
            // A commit whose probe fails is rolled back before the failure is a fact that plans anew.
            configuration.judge()
            doWhatIsDue()
            applier.eviction.step()
            if let asked = server.next() { answer(asked.json, asked.connection) }
            // Timers came first.
            configuration.startNextChange()
            observe()
        }
    }

    /// Waits until a descriptor has something, or something is due.
    private func wait() {
        var polled = [pollfd(fd: monitor.descriptor, events: Int16(POLLIN), revents: 0)]
        polled += traces.polled + health.probes.polled + server.polled + previews.polled + facts.polled
        polled +=
            applier.drift.programs.polled + answers.polled + configuration.background.polled
            + outside.polled
        let due = [
            timers.tick, configuration.rollbackAt, health.due, traces.due, server.due, previews.due, facts.nextReport,
            applier.eviction.due, applier.drift.programs.nextDeadline, answers.due, audit.due,
            configuration.isPlanning || configuration.requests.isEmpty ? nil : 0,
            configuration.isPlanning ? nil : [timers.still, applier.retry.at, facts.due].compactMap { $0 }.min(),
        ].compactMap { $0 }.min()
        let patience = Int32(clamping: max(0, (due ?? 0) - Uptime.milliseconds))
        if poll(&polled, nfds_t(polled.count), patience) < 0, errno != EINTR { usleep(100_000) }
    }

    /// Takes in what has come, without deciding anything.
    private func takeInput() {
        let changes = monitor.changes()
        if !changes.isEmpty {
            applier.drift.heard(changes)
            // Links come in bursts: what they mean is asked when they are still.
            timers.still = Uptime.milliseconds + Timers.stillness
        }
        let before = health.probes.facts
        health.probes.step()
        if health.probes.facts != before { facts.areStale = true }
        traces.step()
        server.step()
        previews.step(applier.revision) { try self.previewState() }
        applier.drift.programs.step()
        facts.step(applier.applied)
        answers.step()
        configuration.background.step()
        outside.step()
        audit.step()
    }

    /// Does the most urgent of what is due: a rollback comes before all else.
    private func doWhatIsDue() {
        let now = Uptime.milliseconds
        if let time = configuration.rollbackAt, now >= time {
            configuration.rollBack("it was not confirmed in time")
        } else if configuration.isPlanning {
            // Its plan comes first.
        } else if let time = applier.retry.at, now >= time {
            configuration.follow()
        } else if facts.areStale, now >= facts.notBefore {
            configuration.followFacts()
        } else if let time = timers.still, now >= time {
            timers.still = nil
            configuration.followFacts()
            if !configuration.isPlanning { applier.repairDrift() }
        }
        if now >= timers.tick {
            timers.tick = now + Timers.interval
            lookAround(now)
        }
    }

    /// Reads what sends no notifications.
    private func lookAround(_ now: Int) {
        let wasSet = clock.tick()
        if wasSet { configuration.replanSoon() }
        if !configuration.isPlanning, !configuration.replanIfDue(), now >= timers.facts {
            timers.facts = now + Timers.factsInterval
            configuration.followFacts()
        }
        tables.step(now)
        endOutdatedSessions()
        applier.drift.look()
        feeds.follow(clockWasSet: wasSet)
        // The plan that is being made is compared when it is applied.
        if !configuration.isPlanning { applier.repairDrift() }
        outside.look()
    }

    /// Adds an event for each subject that has changed.
    private func observe() {
        events.observe("status", statusSubject, at: clock.now)
        events.observe("health", ["probes": .object(health.probes.facts.mapValues(\.json))], at: clock.now)
        if facts.planned != toldFacts {
            toldFacts = facts.planned
            events.observe("facts", facts.planned?.json ?? [:], at: clock.now)
        }
        // PID 1 is asked only while a client subscribes.
        guard events.hasFollowers, Uptime.milliseconds >= timers.services else { return }
        timers.services = Uptime.milliseconds + Timers.interval
        guard let services = try? places.pidOne.services() else { return }
        events.observe(
            "services",
            .object(
                Dictionary(
                    services.map { ($0.name, ["state": .text($0.state), "restarts": .integer($0.restarts)] as JSON) }
                ) { $1 }), at: clock.now)
    }
}
