import Documents
import Glibc
import Netlink
import Planning
import PluginKit

/// When the loop's own work is due, in milliseconds of the kernel's time.
struct Timers {
    /// When links have been still for long enough to ask what their changes mean; nil when they are.
    var still: Int?
    var tick = Uptime.milliseconds
    var facts = Uptime.milliseconds
    var services = Uptime.milliseconds
    /// The facts may be others than those of the plan.
    var areFactsStale = false
    /// When they are followed next at the earliest.
    private(set) var factsNotBefore = 0
    /// Milliseconds that facts have taken of late, and until when.
    private var factsDebt = (0, 0)
    /// What they may take at once.
    private static let factsCredit = 1000

    /// Notes how long facts took. Those that change all the time take half of the time at most.
    mutating func noteFacts(from begin: Int, to end: Int) {
        let (debt, until) = factsDebt
        factsDebt = (max(0, debt - (begin - until)) + end - begin, end)
        factsNotBefore = end + max(0, factsDebt.0 - Self.factsCredit)
    }

    /// How long links must be still, how often what reports no changes is looked at, and how often all
    /// facts are; in milliseconds.
    static let (stillness, interval, factsInterval) = (100, 1000, 10_000)
}

extension Engine {
    /// Follows the site, and serves the sockets, for ever. In each pass come timers first, then one request.
    /// No caller makes it wait. Plans, plugins' commands and drivers' changes still do, within their
    /// deadlines.
    public func run() throws -> Never {
        resetToFactory()
        // Before any service starts on what another release's daemons left.
        for line in try PluginStates(places: places).adopt(planner.plugins.map(\.manifest)) { Log.say(line) }
        readSite()
        follow()
        watchPendingCommit()
        while true {
            wait()
            Notification.send("WATCHDOG=1")
            takeInput()
            // A commit whose probe fails is rolled back before the failure is a fact that plans anew.
            judge()
            doWhatIsDue()
            eviction.step()
            answerNextRequest()
            observe()
        }
    }

    /// Waits until a descriptor has something, or something is due.
    private func wait() {
        var polled = [pollfd(fd: monitor.descriptor, events: Int16(POLLIN), revents: 0)]
        if let tracing { polled.append(pollfd(fd: tracing.descriptor, events: Int16(POLLIN), revents: 0)) }
        polled += probes.polled + server.polled + previews.polled + reportsPolled + drift.programs.polled
        let due = [
            timers.tick, timers.still, retry.at, revertAt, probes.due, probation?.services.due, tracing?.due,
            server.due, previews.due, reportsDue, eviction.due, drift.programs.nextDeadline,
            timers.areFactsStale ? timers.factsNotBefore : nil,
        ].compactMap { $0 }.min()
        let patience = Int32(clamping: max(0, (due ?? 0) - Uptime.milliseconds))
        if poll(&polled, nfds_t(polled.count), patience) < 0, errno != EINTR { usleep(100_000) }
    }

    /// Takes in what has come, without deciding anything.
    private func takeInput() {
        let changes = monitor.changes()
        if !changes.isEmpty {
            drift.heard(changes)
            // Links come in bursts: what they mean is asked when they are still.
            timers.still = Uptime.milliseconds + Timers.stillness
        }
        let before = probes.facts
        probes.step()
        if probes.facts != before { timers.areFactsStale = true }
        followTrace()
        server.step()
        previews.step(planRevision) { try self.previewState() }
        drift.programs.step()
        let hasReports = takeReports()
        if reported.forgetEnded() || hasReports { timers.areFactsStale = true }
    }

    /// Does the most urgent of what is due: putting back a commit comes before all else.
    private func doWhatIsDue() {
        let now = Uptime.milliseconds
        if let time = revertAt, now >= time {
            revert("it was not confirmed in time")
        } else if let time = retry.at, now >= time {
            follow()
        } else if timers.areFactsStale, now >= timers.factsNotBefore {
            followFacts()
            timers.noteFacts(from: now, to: Uptime.milliseconds)
        } else if let time = timers.still, now >= time {
            timers.still = nil
            followFacts()
            mendDrift()
        }
        if now >= timers.tick {
            timers.tick = now + Timers.interval
            lookAround(now)
        }
    }

    /// Inspects what sends no notifications.
    private func lookAround(_ now: Int) {
        let wasSet = clock.tick()
        if let time = replanAt, wasSet || clock.now >= time {
            // What fails is tried again in its own time.
            replanAt = nil
            follow()
            // A document that can't be planned now may be in the next minute: what should have ended has not.
            if trouble != nil, retry.at == nil, replanAt == nil { replanAt = clock.now + 60 }
        } else if now >= timers.facts {
            timers.facts = now + Timers.factsInterval
            followFacts()
        }
        drift.look()
        followFeeds(clockWasSet: wasSet)
        mendDrift()
        for found in outside.look() { take(found) }
        // A commit that may be rolled back must not write disks.
        if head.pending == nil { stick.follow(site) }
    }

    private func answerNextRequest() {
        guard let asked = server.next() else { return }
        // The request to reboot is answered before PID 1 ends the engine for it.
        var (ends, before) = (sigset_t(), sigset_t())
        sigemptyset(&ends)
        sigaddset(&ends, SIGTERM)
        pthread_sigmask(SIG_BLOCK, &ends, &before)
        answer(asked.json, asked.connection)
        pthread_sigmask(SIG_SETMASK, &before, nil)
    }

    /// Adds an event for each subject that has changed.
    private func observe() {
        events.observe("status", statusSubject, at: clock.now)
        events.observe("health", ["probes": .object(probes.facts.mapValues(\.json))], at: clock.now)
        if plannedFacts != toldFacts {
            toldFacts = plannedFacts
            events.observe("facts", plannedFacts?.json ?? [:], at: clock.now)
        }
        // PID 1 is asked only while a client subscribes.
        guard events.hasFollowers, Uptime.milliseconds >= timers.services else { return }
        timers.services = Uptime.milliseconds + Timers.interval
        guard let services = try? pidOne.services() else { return }
        events.observe(
            "services",
            .object(
                Dictionary(
                    services.map { ($0.name, ["state": .text($0.state), "restarts": .integer($0.restarts)] as JSON) }
                ) { $1 }), at: clock.now)
    }

    /// A commit that waits for its confirmation is watched on by the next engine.
    private func watchPendingCommit() {
        guard head.pending != nil else { return }
        let watched = applied.plan.values(ProbeResource.self)
        probation = Probation(
            probes: Dictionary(watched.map { ($0.name, $0) }) { $1 },
            services: ServiceWatch(
                applied.plan, changed: [], earlier: ServiceWatch(), before: presentServices, logs: serviceLogs))
        probes.demand(Set(watched.map(\.name)))
    }
}
