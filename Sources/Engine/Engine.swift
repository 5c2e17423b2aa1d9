import CSystem
import Callers
import Documents
import Files
import Glibc
import Netlink
import Planning
import PluginKit

/// Owns the configuration of the box, and decides every change of kernel, files and services. Each
/// part has its own state; the engine itself has the loop and the socket.
public final class Engine {
    let places: Places
    let clock: WallClock
    let facts: FactSources
    let health: HealthMonitor
    let applier: PlanApplier
    let feeds: Feeds
    let configuration: Configuration
    let outside: OutsideDocuments
    let explainer: PacketExplainer
    let traces: Traces
    let commands: PluginCommands
    let stateData: StateData
    let answers = AnswerQueue()
    let server: Server
    let previews: Previews
    let events = Events()
    let audit: AuditLog
    var sessions: LoginSessions
    let tables = KernelTables()
    let monitor: Monitor
    var timers = Timers()
    /// The facts that subscribers know.
    var toldFacts: Facts?

    /// Takes the packet filter over before anything else: from here on nothing is forwarded that no policy allows.
    public init(places: Places) throws {
        self.places = places
        csystem_share_heap()
        try FileSystem.makeDirectory(places.state)
        // A predecessor that crashed may have left files half written.
        for folder in [places.state, places.secrets, places.run] where FileSystem.exists(folder) {
            try FileSystem.removeLeftovers(in: folder)
        }
        let routes = try RouteSocket()
        monitor = try Monitor()
        let nftables = try FilterTable()
        let loopback = try routes.links().first { $0.name == "lo" }
        if let loopback, !loopback.isUp { try routes.setLink(loopback.index, isUp: true) }
        clock = WallClock(path: places.clock, built: WallClock.built(places.image))
        sessions = LoginSessions(path: places.sessions)
        audit = AuditLog(folder: places.audit, now: { [clock] in clock.now })
        let planner = try places.planner()
        let probes = Probes(routes: routes)
        facts = try FactSources(places: places, routes: routes, planner: planner, probes: probes)
        // Services see the folders that were there when they started; sockets and files may come
        // later. Services that are to see it find it when they start.
        try FileSystem.makeDirectory(places.audit)
        chmod(places.audit, 0o700)
        for name in ["network", "upgrade"] { try FileSystem.makeDirectory("\(places.run)/\(name)") }
        var bounds = Server.Bounds()
        let units = InstalledUnits(folders: [InstalledUnits.image, places.units])
        bounds.unit = { units.unit($0) }
        // Users of every role belong to this group.
        server = try Server(path: places.socket, group: gid_t(Role.readOnly.group.number), bounds: bounds)
        for (path, target) in places.socketLinks {
            unlink(path)
            guard symlink(target, path) == 0 else { throw SystemError("symlink", path) }
        }
        previews = Previews(places: places)
        let files = FeedFiles(places: places)
        nftables.fed = { [clock] in (files.content(of: $0), clock.now) }
        let eviction = Eviction(
            present: { [clock] in nftables.policy(at: clock.now) }, routes: routes,
            members: { set in Set(((try? nftables.members(of: set)) ?? []).map(\.key)) })
        applier = try PlanApplier(
            places: places, planner: planner, routes: routes, nftables: nftables, facts: facts, probes: probes,
            eviction: eviction, clock: clock)
        feeds = Feeds(files: files, nftables: nftables, eviction: eviction, clock: clock)
        health = HealthMonitor(places: places, planner: planner, routes: routes, probes: probes, applier: applier)
        configuration = Configuration(
            places: places, planner: planner, applier: applier, facts: facts, health: health, clock: clock,
            events: events)
        outside = OutsideDocuments(places: places, configuration: configuration, audit: audit)
        explainer = PacketExplainer(
            planner: planner, routes: routes, configuration: configuration, applier: applier, feeds: feeds,
            clock: clock)
        traces = Traces(routes: routes, nftables: nftables, applier: applier, explainer: explainer)
        commands = PluginCommands(
            places: places, planner: planner, configuration: configuration, applier: applier, facts: facts,
            feeds: feeds, clock: clock)
        stateData = StateData(
            places: places, planner: planner, routes: routes, configuration: configuration, applier: applier,
            facts: facts, health: health, feeds: feeds)
    }
}
