import Netlink
import Planning
import PluginKit

/// Brings the box from one plan to another, in an order in which nothing is ever open that neither of the two opens:
/// modules, links (down), the packet filter as one batch, then what makes packets flow; removals the other way round.
struct Transaction {
    let places: Places
    let nftables: NftablesDriver
    let socket: RouteSocket

    /// - Throws: what failed; the caller puts the old plan back.
    func apply(from old: Plan, to new: Plan) throws {
        let change = PlanChange(from: old, to: new)
        let (links, addresses) = (LinkDriver(socket: socket), AddressDriver(socket: socket))
        let (kernel, files) = (KernelDriver(places: places), FileDriver(places: places))
        let table = TablePlan(new.all)
        try nftables.check(table)

        for case .kernelModule(let name) in change.added { try kernel.load(name) }
        // All of them: a port that was unplugged and came back has lost its name.
        let wantedLinks = new.all.compactMap { if case .link(let link) = $0 { link } else { nil } }
        try links.prepare(wantedLinks)
        for case .sysctl(let key, let value) in change.added { try kernel.set(key, value) }
        try nftables.apply(table)
        try links.bringUp(wantedLinks)
        try addresses.remove(change.removed.addresses)
        try addresses.add(new.all.addresses)
        try addresses.remove(change.removed.routes)
        try addresses.add(new.all.routes)
        for case .directory(let path, let owner, let mode) in change.added {
            try files.makeDirectory(path, owner: owner, mode: mode)
        }
        var contents: [String: String] = [:]
        for case .file(let path, let content, _, _) in new.all { contents[path] = content }
        for case .file(let path, let content, let owner, let mode) in change.added {
            try files.write(path, content: content, owner: owner, mode: mode)
        }
        try ServiceDriver(places: places).apply(
            new.all.compactMap { if case .service(let service) = $0 { service } else { nil } }, files: contents)

        for case .file(let path, _, _, _) in change.removed { try files.remove(path, isDirectory: false) }
        for case .directory(let path, _, _) in change.removed.reversed() { try files.remove(path, isDirectory: true) }
        try links.remove(change.removed.compactMap { if case .link(let link) = $0 { link } else { nil } })
    }
}

/// What differs between two plans, by their lines.
struct PlanChange {
    /// New or changed, in the order of their lines.
    var added: [Resource] = []
    /// No longer wanted at all.
    var removed: [Resource] = []

    init(from old: Plan, to new: Plan) {
        for (key, planned) in new.resources.sorted(by: { $0.value.line < $1.value.line })
        where old.resources[key]?.line != planned.line {
            added.append(planned.resource)
        }
        for (key, planned) in old.resources.sorted(by: { $0.value.line < $1.value.line })
        where new.resources[key] == nil {
            removed.append(planned.resource)
        }
    }
}

extension [Resource] {
    var addresses: [(link: String, prefix: IPPrefix)] {
        compactMap { if case .address(let link, let prefix) = $0 { (link, prefix) } else { nil } }
    }

    var routes: [RouteResource] { compactMap { if case .route(let route) = $0 { route } else { nil } } }
}
