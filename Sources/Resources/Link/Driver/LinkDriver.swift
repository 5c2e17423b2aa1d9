import Netlink
import PluginKit

extension LinkResource: DrivenResource { typealias ItsDriver = LinkDriver }

/// Links: ports get the name of their role, other types are made. A link that is as planned is not
/// touched.
struct LinkDriver: Driver {
    static let watch = DriftWatch.netlink

    /// The protocol number of the engine's addresses, routes and rules (IFA_PROTO, RTPROT_*,
    /// FRA_PROTOCOL): "v". A restarted engine knows its own by it.
    static let origin: UInt8 = 118

    private let socket: RouteSocket

    init(_ context: DriverContext) { socket = context.socket }

    func steps(_ change: KindChange<LinkResource>) -> [Step] {
        [
            Step(.links) { try prepare(change.wanted) },
            Step(.linksUp) { try setUp(change.wanted) },
            Step(.linkRemoval) { try remove(change.before, except: change.wanted) },
        ]
    }

    /// The alternative name of a link that the engine made.
    private static func mark(_ name: String) -> String { "vcpe-\(name)" }

    /// The name of a link before its mark is set: interfaces of a document have no dots.
    private static let unfinished = "vcpe.new"

    /// The name of a port whose name another link gets.
    private static func parked(_ link: Link) -> String { "vcpe.\(link.index)" }

    /// True for what the engine made.
    private static func isOwn(_ link: Link) -> Bool { link.alternativeNames.contains { $0.hasPrefix(mark("")) } }

    /// True where a link is what a plan means, whatever its name.
    static func isSame(_ link: Link, _ wanted: LinkResource) -> Bool {
        if let port = wanted.type.as(PortLink.self) { return Ports.isSame(link, path: port.path, mac: port.mac) }
        return link.kind == wanted.type.kernelKind
    }

    /// The MTUs of a plan's links by name.
    static func mtus(_ wanted: [LinkResource]) -> [String: Int] {
        var mtus: [String: Int] = [:]
        func mtu(_ link: LinkResource) -> Int? {
            if let known = mtus[link.name] { return known }
            let ports = wanted.filter { $0.master == link.name }.compactMap(mtu)
            let mtu = link.mtu ?? link.type.value.defaultMTU(ports: ports)
            mtus[link.name] = mtu
            return mtu
        }
        for link in wanted { _ = mtu(link) }
        return mtus
    }

    /// Masters before their ports.
    static func order(_ wanted: [LinkResource]) throws -> [LinkResource] {
        let byName = Dictionary(wanted.map { ($0.name, $0) }) { $1 }
        var (ordered, done, active): ([LinkResource], Set<String>, Set<String>) = ([], [], [])
        func add(_ link: LinkResource) throws {
            if done.contains(link.name) { return }
            guard active.insert(link.name).inserted else {
                throw EngineError("link \(link.name): links depend on each other in a circle")
            }
            for name in [link.master].compactMap({ $0 }) { try byName[name].map(add) }
            done.insert(link.name)
            ordered.append(link)
        }
        for link in wanted { try add(link) }
        return ordered
    }

    // MARK: - Making

    /// Makes and names links, all of them down; sets masters and MTUs.
    private func prepare(_ wanted: [LinkResource]) throws {
        try clearNames(for: wanted)
        let mtus = Self.mtus(wanted)
        for link in try Self.order(wanted) {
            let present = try link.type.as(PortLink.self) == nil ? made(link) : renamed(link)
            if let mtu = mtus[link.name], present.mtu != mtu { try socket.setLink(present.index, mtu: mtu) }
            try setMaster(of: present, link)
        }
    }

    /// Frees the names of the plan's links: another port is parked, another link of the engine is
    /// deleted.
    private func clearNames(for wanted: [LinkResource]) throws {
        let all = try socket.links()
        for link in wanted {
            guard let present = all.first(where: { $0.name == link.name }), !Self.isSame(present, link) else { continue }
            if Self.isOwn(present) {
                try socket.deleteLink(present.index)
            } else if Ports.isPort(present) {
                try rename(present, to: Self.parked(present))
            } else {
                throw EngineError(
                    "link \(link.name): another program made a link of this name, of the type \(present.kind ?? "card")")
            }
        }
    }

    private func made(_ wanted: LinkResource) throws -> Link {
        guard let kind = wanted.type.kernelKind else { throw EngineError("link \(wanted.name): it can't be made") }
        if let present = try socket.links().first(where: { $0.name == wanted.name }) { return present }
        // The mark comes before the name: after a crash every link with a plan's name has its owner.
        for leftover in try socket.links() where leftover.name == Self.unfinished {
            try socket.deleteLink(leftover.index)
        }
        try socket.createLink(Self.unfinished, kind: kind)
        guard let made = try socket.links().first(where: { $0.name == Self.unfinished }) else {
            throw EngineError("link \(wanted.name): another program deleted it while it was made")
        }
        try socket.addAlternativeName(Self.mark(wanted.name), to: made.index)
        try socket.renameLink(made.index, to: wanted.name)
        return made
    }

    private func renamed(_ wanted: LinkResource) throws -> Link {
        guard let link = try socket.links().first(where: { Self.isSame($0, wanted) }) else {
            let port = wanted.type.as(PortLink.self).map { $0.path.isEmpty ? $0.mac.description : $0.path }
            throw EngineError("link \(wanted.name): the port \(port ?? "") is absent")
        }
        if link.name != wanted.name { try rename(link, to: wanted.name) }
        return link
    }

    /// A link that gets another role is down until the packet filter has the role.
    private func rename(_ link: Link, to name: String) throws {
        if link.isUp { try socket.setLink(link.index, isUp: false) }
        try socket.renameLink(link.index, to: name)
    }

    private func setMaster(of link: Link, _ wanted: LinkResource) throws {
        let master = try wanted.master.map { name in
            guard let master = try socket.links().first(where: { $0.name == name }) else {
                throw EngineError("link \(wanted.name): there is no link \(name)")
            }
            return master.index
        }
        guard link.master != master else { return }
        if link.isUp { try socket.setLink(link.index, isUp: false) }
        try socket.setLink(link.index, master: master)
    }

    private func setUp(_ wanted: [LinkResource]) throws {
        let all = try socket.links()
        for wanted in wanted {
            guard let link = all.first(where: { $0.name == wanted.name }), !link.isUp else { continue }
            try socket.setLink(link.index, isUp: true)
        }
    }

    // MARK: - Removing

    /// Deletes what the engine made and no plan has; a port without a role goes down, with its default
    /// MTU.
    private func remove(_ old: [LinkResource], except wanted: [LinkResource]) throws {
        let all = try socket.links()
        for link in all where Self.isOwn(link) && !wanted.contains(where: { $0.name == link.name }) {
            try socket.deleteLink(link.index)
        }
        for gone in old where gone.type.as(PortLink.self) != nil {
            guard let link = all.first(where: { Self.isSame($0, gone) }),
                !wanted.contains(where: { Self.isSame(link, $0) })
            else { continue }
            if link.isUp { try socket.setLink(link.index, isUp: false) }
            if link.master != nil { try socket.setLink(link.index, master: nil) }
            if let mtu = gone.type.value.defaultMTU(ports: []), gone.mtu != nil, link.mtu != mtu {
                try socket.setLink(link.index, mtu: mtu)
            }
        }
    }

    // MARK: - Drift

    func drift(from wanted: [LinkResource]) throws -> [String] {
        Self.differences(wanted: wanted, present: try socket.links())
    }

    /// What differs from a plan's links.
    static func differences(wanted: [LinkResource], present: [Link]) -> [String] {
        let mtus = mtus(wanted)
        var differences = wanted.compactMap { wanted -> String? in
            guard let link = present.first(where: { $0.name == wanted.name }), isSame(link, wanted) else {
                return "link \(wanted.name) is missing"
            }
            if !link.isUp { return "link \(wanted.name) is down" }
            let master = link.master.map { present.name(of: $0) }
            if master != wanted.master {
                return "link \(wanted.name) is a port of \(master ?? "nothing") instead of \(wanted.master ?? "nothing")"
            }
            if let mtu = mtus[wanted.name], link.mtu != mtu {
                return "link \(wanted.name) has the MTU \(link.mtu) instead of \(mtu)"
            }
            return nil
        }
        for link in present where isOwn(link) && !wanted.contains(where: { $0.name == link.name }) {
            differences.append("link \(link.name) is not planned")
        }
        return differences
    }
}
