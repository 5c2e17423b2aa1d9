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
    let planner: Planner
    let nftables: FilterTable
    let routes: RouteSocket
    let monitor: Monitor
    /// What services report, and by which socket.
    let reported: FactStore
    private let reports: Reports
    let server: Server
    let previews: Previews
    let events = Events()
    /// What the box has now.
    private(set) var applied: AppliedState
    /// What its files say.
    private var noted: AppliedState?
    /// What it is to have: the documents as their owners gave them, and merged.
    var documents = SiteDocuments()
    var site: Node
    var siteName: String
    /// Where that comes from.
    let store: CommitStore
    /// The documents that the applied plan was made of; they may be earlier ones than the site's.
    var appliedDocuments: SiteDocuments?
    /// Counts the plans that were applied.
    var planRevision = 0
    var head = Head()
    /// What is wrong with the commits on the disk.
    var damage: String?
    var plannedFacts: Facts?
    /// The facts that subscribers know.
    var toldFacts: Facts?
    /// The kernel's numbers of the ports then: one that went and came has another.
    var plannedPorts: Set<Int> = []
    /// Why the last plan could not be applied; nil when it was.
    var trouble: String?
    let probes: Probes
    /// What a commit must have kept before it stands.
    var probation: Probation?
    /// Why a commit was put back last.
    var lastRevert: String?
    var clock: WallClock
    /// When the site is planned again by its own wish, in seconds since 1970.
    var replanAt: Int?
    var drift = Drift()
    let secrets: SecretStore
    let feeds: Feeds
    private(set) lazy var eviction = Eviction(
        present: { [unowned self] in self.activePolicy }, routes: routes,
        members: { [nftables] set in Set(((try? nftables.members(of: set)) ?? []).map(\.key)) })
    /// When feeds were looked at last, in seconds since 1970, and what was wrong with them.
    var feedsLookedAt = 0
    var saidOfFeeds: String?
    private var isReady = false
    /// What the consoles were told.
    private var shownNotice: String?
    /// Packets that somebody follows.
    var tracing: Tracing?
    /// Documents that come from a stick, or from the machine that emulates the box.
    var outside: OutsideSites
    var stick: StickInstaller
    /// When a plan that failed for a reason that may pass is tried again.
    var retry = Retry()
    /// When the loop's own work is due.
    var timers = Timers()

    /// Takes the packet filter over before anything else: from here on nothing is forwarded that no policy allows.
    public init(places: Places) throws {
        self.places = places
        try FileSystem.makeDirectory(places.state)
        // A predecessor that fell may have left files half written.
        for folder in [places.state, places.secrets, places.run] where FileSystem.exists(folder) {
            try FileSystem.removeLeftovers(in: folder)
        }
        routes = try RouteSocket()
        monitor = try Monitor()
        nftables = try FilterTable()
        let loopback = try routes.links().first { $0.name == "lo" }
        if let loopback, !loopback.isUp { try routes.setLink(loopback.index, isUp: true) }
        (site, siteName) = (Node(.object([:]), position: .init(file: "", line: 1, column: 1)), "nothing")
        planner = try places.planner()
        reported = FactStore(places: places)
        reports = try Reports(places: places, facts: reported)
        // Users of every role belong to this group.
        server = try Server(path: places.socket, group: gid_t(Role.readOnly.group.number))
        previews = Previews(places: places)
        probes = Probes(routes: routes)
        clock = WallClock(path: places.clock)
        secrets = SecretStore(folder: places.secrets, scratch: places.state)
        outside = OutsideSites(places: places)
        stick = StickInstaller(places: places)
        feeds = Feeds(places: places)
        store = CommitStore(folder: places.commits, release: places.release)
        let known = AppliedState(at: places.appliedState, customKinds: planner.customKinds)
        applied = known ?? AppliedState()
        nftables.believed = TablePlan(applied.everything.values.map(\.resource).of(NftablesResource.self))
        // What a predecessor has told PID 1 of the units, nobody knows.
        applied.isSettled = false
        nftables.fed = { [unowned self] in (self.feeds.content(of: $0), self.clock.now) }
        // An engine that starts again finds the table as it was left: what stands there stays until a plan is there.
        if try known == nil || !nftables.hasTable { try nftables.load(TablePlan()) }
    }

    // MARK: - Facts

    /// The collections that some plugin of this box reads.
    private var wantedFacts: Set<String> { Set(planner.plugins.flatMap(\.manifest.facts)) }

    func facts() throws -> Facts {
        try places.facts(routes, reported, wantedFacts, probes: probes.facts)
    }

    /// Takes what services have reported by now.
    ///
    /// - Returns: true when there may be other facts than before.
    func takeReports() -> Bool {
        // Asked for each report only: a plan may have tens of thousands of resources.
        reports.step { service in
            let key = ResourceKey(ServiceResource.kind, service)
            // Of what is being applied, too: a service may report before the rest of its plan is there.
            guard let planned = applied.leftovers[key] ?? applied.plan.resources[key] else { return nil }
            return planner.plugins.first { $0.manifest.name == planned.plugin }?.manifest
        }
    }

    var reportsDue: Int? { [reports.due, reported.nextEnd].compactMap { $0 }.min() }
    var reportsPolled: [pollfd] { reports.polled }

    var pidOne: InitClient { InitClient(socket: places.initSocket) }
    var serviceLogs: ServiceLogs { ServiceLogs(folder: places.logs) }
    var consoles: Consoles { Consoles(folder: places.devices) }

    /// The kernel's numbers of ports, and of links that services make: what a plan was made for.
    func ports() throws -> Set<Int> {
        let external = Set(
            applied.plan.values(LinkResource.self).filter { $0.isExternal }.map(\.name))
        return Set(try routes.links().filter { Ports.isPort($0) || external.contains($0.name) }.map(\.index))
    }

    // MARK: - Planning and applying

    /// Plans the site with today's facts and applies it; what can't be applied is said, and the last good plan stays.
    func follow() {
        timers.areFactsStale = false
        do {
            let facts = try facts()
            (plannedFacts, plannedPorts) = (facts, try ports())
            let begin = Uptime.milliseconds
            let plan = try planner.plan(site: site, facts: facts, now: clock.now, knowing: applied.plan)
            let planned = Uptime.milliseconds
            for line in plan.absent + plan.warnings { Log.say(line) }
            try apply(plan)
            appliedDocuments = documents
            noteTimes(of: plan)
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
        if error == nil || error is InvalidSite { retry = Retry() } else { retry.again() }
    }

    /// Plans again when the facts are others than those of the last plan. Makes no history.
    func followFacts() {
        timers.areFactsStale = false
        if let facts = try? facts(), facts == plannedFacts, (try? ports()) == plannedPorts { return }
        follow()
        retryFailedServices()
    }

    /// Has PID 1 start failed services at once: what they lacked may be there now.
    private func retryFailedServices() {
        guard FileSystem.exists(places.initSocket), let services = try? pidOne.services() else { return }
        for service in services where service.state == "failed" {
            if applied.plan.resources[ResourceKey(ServiceResource.kind, service.name)] != nil {
                try? pidOne.tell("retry \(service.name)")
            }
        }
    }

    func apply(_ plan: Plan) throws {
        let before = applied
        let context = DriverContext(
            places: places, socket: routes, filter: nftables, secrets: secrets, programs: driverPrograms,
            drifted: driftSetting == .repair ? drift.programs.kinds : [],
            driverFailed: { [programs = drift.programs] in programs.failed($0) }
        ) { values in
            if values.isEmpty { return }
            self.note { $0.sysctls.merge(values) { known, _ in known } }
        } now: { [clock] in
            clock.now
        }
        let change = Transaction(context, from: before, to: plan)
        let policy = activePolicy
        try change.checkAll()
        // An engine that falls from here on leaves word of what the box may have.
        note { $0 = $0.onTheWay(to: plan) }
        do {
            try change.apply()
            note { $0 = $0.settled(plan) }
            if change.touchesFilter, !before.plan.resources.isEmpty { eviction.watch(since: policy) }
            probes.follow(plan.values(ProbeResource.self))
            // What services have reported goes with them.
            reported.keep(services: Set(plan.values(ServiceResource.self).map(\.name)))
            drift = drift.afterChange
            planRevision += 1
            // Reports and states of probes may have gone with the old plan.
            timers.areFactsStale = true
            show(plan.notice)
        } catch {
            let failures = Transaction(context, from: applied, to: before.plan).applyWhatIsPossible()
            for failure in failures { Log.say("putting back failed: \(failure)") }
            if failures.isEmpty { note { $0 = $0.settled(before.plan) } }
            throw error
        }
    }

    /// Shows a notice on the consoles, once.
    private func show(_ notice: String?) {
        if let notice, notice != shownNotice { consoles.say(notice) }
        shownNotice = notice
    }

    func note(_ change: (inout AppliedState) -> Void) {
        change(&applied)
        do {
            try applied.save(to: places.appliedState, knowing: noted)
            noted = applied
        } catch {
            Log.say("what is applied can't be noted: \(error)")
        }
    }

    var siteReader: SiteReader { SiteReader(places: places, manifests: planner.plugins.map(\.manifest)) }

    /// What documents would do: the resources that they add, and those that they remove or change.
    ///
    /// - Parameter changed: those that are not the present ones.
    func plan(_ documents: SiteDocuments, changed: [SiteDocument], name: String) throws -> Planned {
        let (node, warnings) = try siteReader.read(documents, name: name, changed: changed)
        try SiteReader.checkContent(of: node, name)
        let (facts, ports) = (try facts(), try ports())
        var plan = try planner.plan(site: node, facts: facts, now: clock.now, knowing: applied.plan)
        plan.warnings = warnings + plan.warnings
        return Planned(
            site: node, plan: plan, facts: facts, ports: ports, added: plan.beyond(applied.plan),
            removed: applied.plan.beyond(plan))
    }

    /// A document with its plan, and the facts that it was made with.
    struct Planned {
        var site: Node
        var plan: Plan
        var facts: Facts
        var ports: Set<Int>
        var added: [PlannedResource]
        var removed: [PlannedResource]
    }

    var planLines: [String] { applied.plan.lines }

    /// The table as `nft -j -f` would take it.
    var rulesetDocument: JSON { TablePlan(applied.plan.filter).contents.document(table: PacketPath.table) }

    func counters() throws -> JSON {
        .object(
            try nftables.counters().mapValues {
                ["packets": .integer(Int(clamping: $0.packets)), "bytes": .integer(Int(clamping: $0.bytes))]
            })
    }

    /// A plan of the document that is followed was applied by a commit.
    func noteTimes(of plan: Plan) {
        // A time that is over is no reason to plan again and again.
        replanAt = plan.replanAt.map { $0 > clock.now ? $0 : clock.now + 60 }
    }

    /// Seconds since 1970, as far as they can be known.
    var now: Int { clock.now }
}
