import Netlink
import Planning
import PluginKit

/// Brings the box from one plan to another, in an order in which nothing is ever open that neither of the two opens:
/// modules, links (down), the packet filter as one batch, then what makes packets flow; removals the other way round.
///
/// Each step looks at what is there and mends what differs, so that it may be taken from wherever an earlier try, or an
/// engine that fell, left off.
final class Transaction {
    let places: Places
    let nftables: NftablesDriver
    let socket: RouteSocket
    let secrets: SecretStore
    /// What the box has, and what it may have beside that.
    let old: AppliedState
    let new: Plan
    /// The packet filter of the new one.
    let table: TablePlan
    /// What the kernel has checked.
    private var checked: NftablesDriver.Change?
    /// Takes note of what sysctls were before they are set, by key.
    let remember: ([String: String]) -> Void

    init(
        places: Places, nftables: NftablesDriver, socket: RouteSocket, secrets: SecretStore, old: AppliedState,
        new: Plan,
        remember: @escaping ([String: String]) -> Void
    ) {
        (self.places, self.nftables, self.socket, self.secrets) = (places, nftables, socket, secrets)
        (self.old, self.new, table, self.remember) = (old, new, TablePlan(new.all), remember)
    }

    /// What only one of the two plans has.
    private lazy var difference = new.beyond(old.plan) + old.plan.beyond(new)

    /// Whether the packet filter changes.
    var touchesFilter: Bool { difference.contains { $0.resource.kind == .nftables } }

    /// Has the kernel check what can be checked without changing anything.
    ///
    /// Where nothing but the packet filter changes, its own batch is checked and applied as one.
    func check() throws {
        let isFilterAlone = difference.allSatisfy { $0.resource.kind == .nftables }
        if !old.isSettled || !isFilterAlone { checked = try nftables.check(table) }
    }

    /// - Throws: what failed; the box has something between the two plans then.
    func apply() throws { for step in steps { try step() } }

    /// Goes as far towards the plan as can be gone: one step that fails holds no other up.
    ///
    /// - Returns: what failed.
    func applyWhatCanBe() -> [any Error] {
        steps.compactMap { step in
            do {
                try step()
                return nil
            } catch {
                return error
            }
        }
    }

    private var steps: [() throws -> Void] {
        let change = PlanChange(from: old, to: new)
        let (links, sysctls, files) = (LinkDriver(socket: socket), SysctlDriver(), FileDriver(places: places))
        let modules = KernelModuleDriver(places: places)
        let (nftables, table, checked, remember) = (nftables, table, checked, remember)
        let (old, socket, secrets, places) = (old, socket, secrets, places)
        let all = new.others
        return [
            { for case .kernelModule(let name) in change.added { try modules.load(name) } },
            {
                // Roles and policy belong together: without the one, the other stays as it is too, and what has changed
                // its role stays down.
                try links.prepare(all.links)
                let unknown = all.sysctls.subtracting(old.sysctls.keys)
                remember(Dictionary(unknown.compactMap { key in sysctls.value(of: key).map { (key, $0) } }) { $1 })
                let failures = Result { for case .sysctl(let key, let value) in all { try sysctls.set(key, value) } }
                if let checked { try nftables.apply(checked) } else { try nftables.apply(table) }
                try links.bringUp(all.links)
                try failures.get()
            },
            { try AddressDriver(socket: socket).bring(all.addresses) },
            { try RouteDriver(socket: socket).bring(all.routes) },
            { try RuleDriver(socket: socket).bring(all.rules) },
            { try secrets.make(all) },
            {
                // An engine that fell may have left a file half written.
                if !old.isSettled {
                    try files.removeLeftovers(of: old.plan.others + old.leftovers.values.map(\.resource))
                }
                for case .directory(let path, let owner, let mode) in all {
                    try files.makeDirectory(path, owner: owner, mode: mode)
                }
                for case .file(let path, let content, let owner, let mode) in all {
                    try files.write(path, content: try secrets.filled(content), owner: owner, mode: mode)
                }
            },
            {
                try ServiceDriver(places: places).apply(
                    all.services, files: all.fileContents, changedFiles: Set(change.added.fileContents.keys),
                    mustTell: !old.isSettled)
            },
            {
                for case .file(let path, _, _, _) in change.removed { try files.remove(path, isDirectory: false) }
                for case .directory(let path, _, _) in change.removed.reversed() {
                    try files.remove(path, isDirectory: true)
                }
            },
            { try links.remove((old.plan.others + old.leftovers.values.map(\.resource)).links, but: all.links) },
            {
                for (key, value) in old.sysctls.sorted(by: { $0.key < $1.key }) where !all.sysctls.contains(key) {
                    try sysctls.putBack(key, value)
                }
            },
        ]
    }
}

/// What differs between two plans, by their lines.
struct PlanChange {
    /// New or changed, in the order of their lines; all of them when nobody knows what is there.
    var added: [Resource] = []
    /// No longer wanted at all.
    var removed: [Resource] = []

    init(from old: AppliedState, to new: Plan) {
        added = (old.isSettled ? new.beyond(old.plan) : new.ordered).map(\.resource)
        let leftovers = old.leftovers.values.filter { old.plan.resources[$0.key] == nil }
        let gone = (old.plan.beyond(new) + leftovers).filter { new.resources[$0.key] == nil }
        removed = gone.sorted { $0.line < $1.line }.map(\.resource)
    }
}

extension [Resource] {
    var links: [LinkResource] { compactMap { if case .link(let link) = $0 { link } else { nil } } }

    var addresses: [(link: String, prefix: IPPrefix)] {
        compactMap { if case .address(let link, let prefix) = $0 { (link, prefix) } else { nil } }
    }

    var routes: [RouteResource] { compactMap { if case .route(let route) = $0 { route } else { nil } } }

    var rules: [RuleResource] { compactMap { if case .rule(let rule) = $0 { rule } else { nil } } }

    var probes: [ProbeResource] { compactMap { if case .probe(let probe) = $0 { probe } else { nil } } }

    var sysctls: Set<String> {
        Set(compactMap { if case .sysctl(let key, _) = $0 { key } else { nil } })
    }

    var services: [ServiceResource] { compactMap { if case .service(let service) = $0 { service } else { nil } } }

    /// What the consoles show.
    var notice: String? {
        lazy.compactMap { if case .setting(.notice(let text)) = $0 { text } else { nil } }.first
    }

    /// By path.
    var fileContents: [String: String] {
        var contents: [String: String] = [:]
        for case .file(let path, let content, _, _) in self { contents[path] = content }
        return contents
    }
}
