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
    /// What the box has now.
    private var applied = Plan()
    /// What it is to have.
    private var site: Node
    private(set) var siteText: String
    private(set) var siteName: String
    private var leases: [String: Facts.Lease] = [:]
    private var plannedFacts: Facts?
    /// Why the last plan could not be applied; nil when it was.
    private(set) var trouble: String?
    private var isReady = false

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
        planner = try Planner(folder: places.plugins)
        let hasState = loadState()
        // An engine that starts again finds the table as it was left: what stands there stays until a plan is there.
        if !hasState { try nftables.load(TablePlan()) }
    }

    // MARK: - Facts

    private func facts() throws -> Facts { Facts(ports: try Ports.all(routes), leases: leases) }

    /// Notes what a DHCP server has lent, or that it lends no more.
    func setLease(_ lease: Facts.Lease?, of interface: String) {
        guard leases[interface] != lease else { return }
        leases[interface] = lease
        Log.say(lease.map { "lease of \(interface): \($0.address)" } ?? "lease of \(interface): gone")
        saveState()
        followFacts()
    }

    // MARK: - Planning and applying

    /// What a technician put beside the box's disk image is the operator's document, when there is none yet and it can be
    /// applied: it is looked for once, at the first start.
    private func takeFirstSite() {
        guard !FileSystem.exists(places.site), let device = places.espDevice else { return }
        let folder = "\(places.run)/esp"
        do {
            try FileSystem.makeDirectory(folder)
            guard mount(device, folder, "vfat", UInt(MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC), nil) == 0 else {
                throw SystemError("mount", device)
            }
            defer { umount(folder) }
            let path = "\(folder)/vcpe/site.yaml"
            guard FileSystem.exists(path) else { return }
            let text = String(decoding: try FileSystem.read(path), as: UTF8.self)
            let plan = try planner.plan(
                site: try YAML.read(Array(text.utf8), file: "site.yaml"), facts: try facts())
            for line in plan.absent + plan.warnings { Log.say(line) }
            if let folder = FileSystem.parent(of: places.site) { try FileSystem.makeDirectory(folder) }
            try FileSystem.replace(places.site, with: text, mode: 0o600)
            Log.say("the document that was flashed is the operator's from now on")
        } catch {
            Log.say("the document that was flashed is not taken: \(error)")
        }
    }

    /// Reads the operator's document, or the factory's.
    private func readSite() {
        takeFirstSite()
        for (path, name) in [(places.site, "the operator's document"), (places.factorySite, "the factory's document")]
        where FileSystem.exists(path) {
            do {
                let bytes = try FileSystem.read(path)
                site = try YAML.read(bytes, file: FileSystem.name(of: path))
                siteText = String(decoding: bytes, as: UTF8.self)
                siteName = name
                return
            } catch {
                Log.say("\(name) can't be read: \(error)")
            }
        }
    }

    /// Plans the site with today's facts and applies it; what can't be applied is said, and the last good plan stays.
    func follow() {
        do {
            let facts = try facts()
            plannedFacts = facts
            let begin = Uptime.milliseconds
            let plan = try planner.plan(site: site, facts: facts)
            let planned = Uptime.milliseconds
            for line in plan.absent + plan.warnings { Log.say(line) }
            try apply(plan)
            let applied = Uptime.milliseconds
            Log.say("\(siteName) is applied: planned in \(planned - begin) ms, applied in \(applied - planned) ms")
            trouble = nil
        } catch {
            trouble = "\(error)"
            Log.say("\(siteName) is not applied: \(error)")
        }
        let state =
            trouble == nil
            ? "policy stands" : isReady ? "the last good policy stands" : "no policy: nothing is forwarded"
        Notification.send(isReady ? "STATUS=\(state)" : "READY=1\nSTATUS=\(state)")
        isReady = true
    }

    /// Plans again when the facts are others than those of the last plan. Makes no history.
    private func followFacts() {
        if let facts = try? facts(), facts == plannedFacts { return }
        follow()
    }

    private func apply(_ plan: Plan) throws {
        let transaction = Transaction(places: places, nftables: nftables, socket: routes)
        let before = applied
        do {
            try transaction.apply(from: before, to: plan)
            applied = plan
            saveState()
        } catch {
            // What was done so far is undone by the same way back.
            do {
                try transaction.apply(from: plan, to: before)
            } catch let second {
                Log.say("putting back failed: \(second)")
            }
            throw error
        }
    }

    /// What a document would do: the lines that come and those that go.
    func plan(_ text: String, name: String) throws -> (plan: Plan, added: [String], removed: [String]) {
        let node = try YAML.read(Array(text.utf8), file: name)
        let plan = try planner.plan(site: node, facts: try facts())
        let (old, new) = (Set(applied.lines), Set(plan.lines))
        return (plan, plan.lines.filter { !old.contains($0) }, applied.lines.filter { !new.contains($0) })
    }

    /// Applies an operator's document, and keeps it when that went well.
    func applySite(_ text: String, name: String) throws -> (added: Int, removed: Int, warnings: [String]) {
        let (plan, added, removed) = try plan(text, name: name)
        // What an operator names must be there; a box that starts goes on without it.
        guard plan.absent.isEmpty else { throw InvalidSite(problems: plan.absent) }
        try apply(plan)
        if let folder = FileSystem.parent(of: places.site) { try FileSystem.makeDirectory(folder) }
        try FileSystem.replace(places.site, with: text, mode: 0o600)
        site = try YAML.read(Array(text.utf8), file: name)
        (siteText, siteName, trouble) = (text, "the operator's document", nil)
        plannedFacts = try facts()
        Log.say("\(name) is applied: \(added.count) lines come, \(removed.count) go")
        Notification.send("STATUS=policy stands")
        return (added.count, removed.count, plan.warnings)
    }

    var planLines: [String] { applied.lines }

    /// The table as `nft -j -f` would take it.
    var rulesetDocument: JSON { TablePlan(applied.all).contents.document(table: PacketPath.table) }

    func counters() throws -> JSON {
        .object(
            try nftables.counters().mapValues {
                ["packets": .integer(Int(clamping: $0.packets)), "bytes": .integer(Int(clamping: $0.bytes))]
            })
    }

    // MARK: - What a restart of the engine must not forget

    private var statePath: String { "\(places.state)/applied" }

    private func saveState() {
        let leases = JSON.object(["leases": Facts(leases: leases).json["leases"] ?? [:]])
        let lines = applied.resources.sorted { $0.value.line < $1.value.line }.map {
            "\($0.value.plugin)\t\($0.value.line)"
        }
        do {
            try FileSystem.replace(statePath, with: ([leases.line] + lines).joined(separator: "\n") + "\n")
        } catch {
            Log.say("what is applied can't be noted: \(error)")
        }
    }

    /// - Returns: true when an engine ran here before since the box was started.
    private func loadState() -> Bool {
        guard let bytes = try? FileSystem.read(statePath) else { return false }
        var lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        guard let first = lines.first else { return false }
        lines.removeFirst()
        let problems = ProblemList()
        if let json = try? JSON.parse(first.utf8) {
            let node = Node(json, position: .init(file: statePath, line: 1, column: 1))
            leases = Facts.shape.read(node, path: "", into: problems)?.leases ?? [:]
        }
        for line in lines {
            let columns = line.split(separator: "\t", maxSplits: 1)
            guard columns.count == 2, let json = try? JSON.parse(columns[1].utf8), let resource = try? Resource(json)
            else { continue }
            let planned = PlannedResource(resource: resource, plugin: String(columns[0]), line: String(columns[1]))
            applied.resources[planned.key] = planned
        }
        return true
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
            let count = poll(&polled, 2, pending ? 100 : 10_000)
            if count < 0, errno != EINTR { usleep(100_000) }
            Notification.send("WATCHDOG=1")
            if polled[1].revents != 0 { pending = monitor.changes().contains(.link) || pending }
            if count == 0, pending {
                pending = false
                followFacts()
            }
            if polled[0].revents != 0 { server.serve { self.answer($0, from: $1) } }
        }
    }
}
