import CSystem
import Documents
import Files
import Glibc
import Netlink
import Planning
import PluginKit
import Processes

/// Owns the configuration of the box and decides every change to kernel, files and services.
public final class Engine {
    let places: Places
    private let planner: Planner
    private let nftables: NftablesDriver
    private let routes: RouteSocket
    private let monitor: Monitor
    private let leases: Leases
    /// What the box has now.
    private(set) var applied: AppliedState
    /// What it is to have.
    var site: Node
    var siteText: String
    var siteName: String
    /// Where that comes from.
    let store: CommitStore
    var head = Head()
    /// What is wrong with the commits on the disk.
    var damage: String?
    var plannedFacts: Facts?
    /// The kernel's numbers of the ports then: one that went and came has another.
    var plannedPorts: Set<Int> = []
    /// Why the last plan could not be applied; nil when it was.
    private(set) var trouble: String?
    private var isReady = false
    /// When a plan that failed for a reason that may pass is tried again, in milliseconds of the kernel's time.
    private var retryAt: Int?
    private var retryDelay = 0

    private static let (firstRetry, longestRetry) = (5000, 60_000)

    /// Takes the packet filter over before anything else: from here on nothing is forwarded that no policy allows.
    public init(places: Places) throws {
        self.places = places
        try FileSystem.makeDirectory(places.state)
        routes = try RouteSocket()
        monitor = try Monitor()
        nftables = try NftablesDriver()
        let loopback = try routes.links().first { $0.name == "lo" }
        if let loopback, !loopback.isUp { try routes.setLink(loopback.index, isUp: true) }
        (site, siteText, siteName) = (Node(.object([:]), position: .init(file: "", line: 1, column: 1)), "", "nothing")
        planner = try Planner(folder: places.plugins, hiding: [places.data, places.run, "/sys"])
        leases = Leases(places: places)
        store = CommitStore(folder: places.commits)
        let known = AppliedState(at: places.appliedState)
        applied = known ?? AppliedState()
        nftables.believed = TablePlan(applied.everything.values.map(\.resource))
        // What a predecessor has told PID 1 of the units, nobody knows.
        applied.isSettled = false
        // An engine that starts again finds the table as it was left: what stands there stays until a plan is there.
        if try known == nil || !nftables.hasTable { try nftables.load(TablePlan()) }
    }

    // MARK: - Facts

    func facts() throws -> Facts { Facts(ports: try Ports.all(routes), leases: leases.now().leases) }

    private func ports() throws -> Set<Int> { Set(try routes.links().filter(Ports.isPort).map(\.index)) }

    // MARK: - Planning and applying

    /// Plans the site with today's facts and applies it; what can't be applied is said, and the last good plan stays.
    func follow() {
        do {
            let facts = try facts()
            (plannedFacts, plannedPorts) = (facts, try ports())
            let begin = Uptime.milliseconds
            let plan = try planner.plan(site: site, facts: facts)
            let planned = Uptime.milliseconds
            for line in plan.absent + plan.warnings { Log.say(line) }
            try apply(plan)
            let applied = Uptime.milliseconds
            Log.say("\(siteName) is applied: planned in \(planned - begin) ms, applied in \(applied - planned) ms")
            settle(nil)
        } catch {
            settle(error)
            Log.say("\(siteName) is not applied: \(error)")
            // What a predecessor left half done is brought to the last plan that was whole.
            if error is InvalidSite, !applied.isSettled { standOn(applied.plan) }
        }
        let state =
            trouble == nil
            ? "policy stands"
            : applied.plan.resources.isEmpty ? "no policy: nothing is forwarded" : "the last good policy stands"
        Notification.send(isReady ? "STATUS=\(state)" : "READY=1\nSTATUS=\(state)")
        isReady = true
    }

    /// Goes back to a plan that was whole, when no document can be planned.
    func standOn(_ plan: Plan) {
        do {
            try apply(plan)
        } catch {
            settle(error)
            Log.say("the last good plan can't be put back: \(error)")
        }
    }

    /// Notes what came of a plan. A document that is wrong stays so; whatever else failed is tried again.
    func settle(_ error: (any Error)?) {
        trouble = error.map { "\($0)" }
        if error == nil || error is InvalidSite {
            (retryAt, retryDelay) = (nil, 0)
        } else {
            retryDelay = min(max(2 * retryDelay, Self.firstRetry), Self.longestRetry)
            retryAt = Uptime.milliseconds + retryDelay
        }
    }

    /// Plans again when the facts are others than those of the last plan. Makes no history.
    func followFacts() {
        if let facts = try? facts(), facts == plannedFacts, (try? ports()) == plannedPorts { return }
        follow()
    }

    func apply(_ plan: Plan) throws {
        let before = applied
        func transaction(from old: AppliedState, to new: Plan) -> Transaction {
            Transaction(places: places, nftables: nftables, socket: routes, old: old, new: new) { values in
                if values.isEmpty { return }
                self.note { $0.sysctls.merge(values) { known, _ in known } }
            }
        }
        try transaction(from: before, to: plan).check()
        // An engine that falls from here on leaves word of what the box may have.
        note { $0 = $0.onTheWay(to: plan) }
        do {
            try transaction(from: before, to: plan).apply()
            note { $0 = $0.settled(plan) }
        } catch {
            let failures = transaction(from: applied, to: before.plan).applyWhatCanBe()
            for failure in failures { Log.say("putting back failed: \(failure)") }
            if failures.isEmpty { note { $0 = $0.settled(before.plan) } }
            throw error
        }
    }

    func note(_ change: (inout AppliedState) -> Void) {
        change(&applied)
        do {
            try applied.save(to: places.appliedState)
        } catch {
            Log.say("what is applied can't be noted: \(error)")
        }
    }

    /// What a document would do: the lines that come and those that go.
    func plan(_ text: String, name: String) throws -> Planned {
        let node = try YAML.read(Array(text.utf8), file: name)
        let (facts, ports) = (try facts(), try ports())
        let plan = try planner.plan(site: node, facts: facts)
        let (old, new) = (Set(planLines), Set(plan.lines))
        return Planned(
            site: node, plan: plan, facts: facts, ports: ports, added: plan.lines.filter { !old.contains($0) },
            removed: planLines.filter { !new.contains($0) })
    }

    /// A document with its plan, and the facts that it was made with.
    struct Planned {
        var site: Node
        var plan: Plan
        var facts: Facts
        var ports: Set<Int>
        var added: [String]
        var removed: [String]
    }

    var planLines: [String] { applied.plan.lines }

    /// The table as `nft -j -f` would take it.
    var rulesetDocument: JSON { TablePlan(applied.plan.all).contents.document(table: PacketPath.table) }

    func counters() throws -> JSON {
        .object(
            try nftables.counters().mapValues {
                ["packets": .integer(Int(clamping: $0.packets)), "bytes": .integer(Int(clamping: $0.bytes))]
            })
    }

    // MARK: - Living

    /// Follows the site, and serves the socket, for ever.
    public func run() throws -> Never {
        let server = try Server(path: places.socket)
        readSite()
        follow()
        var pending = false
        while true {
            var polled = [
                pollfd(fd: server.descriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: monitor.descriptor, events: Int16(POLLIN), revents: 0),
            ]
            // Links come in bursts: what they mean is asked when they are still.
            let due = [retryAt, revertAt, leases.now().nextEnd].compactMap { $0 }.min().map { $0 - Uptime.milliseconds }
            let count = poll(&polled, 2, pending ? 100 : Int32(max(0, min(due ?? 10_000, 10_000))))
            if count < 0, errno != EINTR { usleep(100_000) }
            Notification.send("WATCHDOG=1")
            if polled[1].revents != 0 { pending = monitor.changes().contains(.link) || pending }
            if let time = revertAt, Uptime.milliseconds >= time {
                revert()
            } else if let time = retryAt, Uptime.milliseconds >= time {
                follow()
            } else if count == 0 {
                pending = false
                followFacts()
            }
            if polled[0].revents != 0 { server.serve { self.answer($0, from: $1) } }
        }
    }
}
