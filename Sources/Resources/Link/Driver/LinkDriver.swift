import Netlink
import Planning
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
    /// The same of the other end of a veth.
    private static let unfinishedPeer = "vcpe.peer"

    /// The name of a port whose name another link gets.
    private static func parked(_ link: Link) -> String { "vcpe.\(link.index)" }

    /// True for what the engine made.
    static func isOwn(_ link: Link) -> Bool { link.alternativeNames.contains { $0.hasPrefix(mark("")) } }

    /// True where a link is what a plan means, whatever its name.
    static func isSame(_ link: Link, _ wanted: LinkResource, among all: [Link]) -> Bool {
        if let port = wanted.type.as(PortLink.self) {
            return !isOwn(link) && Ports.isSame(link, path: port.path, mac: port.mac)
        }
        if wanted.type.as(ExternalLink.self) != nil { return !isOwn(link) }
        guard link.kind == wanted.type.kernelKind, isOwn(link) else { return false }
        // A veth reports its other end as its parent, a VLAN the link that carries it.
        let below = wanted.type.value.parents.first ?? wanted.type.as(VethLink.self)?.peer
        if let below, link.parent.map({ all.name(of: $0) }) != below { return false }
        return differences(link, wanted).allSatisfy { !$0.isFixed }
    }

    /// The options of a link's type that differ.
    static func differences(_ link: Link, _ wanted: LinkResource) -> [LinkOption] {
        let type = wanted.type.value
        return type.options.filter { option in
            if option.isWriteOnly { return false }
            let reported = link.data[attribute: option.number]?.payload
            return !(type.isPresent(option, reported: reported) ?? (reported == LinkAttribute(option).payload))
        }
    }

    /// The MTUs of a plan's links by name. ``order(_:)`` has found that no link depends on itself.
    static func mtus(_ wanted: [LinkResource]) -> [String: Int] {
        var mtus: [String: Int] = [:]
        func mtu(_ link: LinkResource) -> Int? {
            if let known = mtus[link.name] { return known }
            let ports = wanted.filter { $0.master == link.name }.compactMap(mtu)
            let parents = wanted.filter { link.type.value.parents.contains($0.name) }.compactMap(mtu)
            let mtu = link.mtu ?? link.type.value.defaultMTU(parents: parents, ports: ports)
            mtus[link.name] = mtu
            return mtu
        }
        for link in wanted { _ = mtu(link) }
        return mtus
    }

    /// Links after their masters and parents.
    static func order(_ wanted: [LinkResource]) throws -> [LinkResource] {
        let byName = Dictionary(wanted.map { ($0.name, $0) }) { $1 }
        var (ordered, done, active): ([LinkResource], Set<String>, Set<String>) = ([], [], [])
        func add(_ link: LinkResource) throws {
            if done.contains(link.name) { return }
            guard active.insert(link.name).inserted else {
                throw EngineError("link \(link.name): links depend on each other in a circle")
            }
            for name in link.type.value.parents + [link.master].compactMap({ $0 }) { try byName[name].map(add) }
            done.insert(link.name)
            ordered.append(link)
        }
        for link in wanted { try add(link) }
        return ordered
    }

    // MARK: - Making

    /// Makes and names links, all of them down; sets their types' options, masters and MTUs.
    private func prepare(_ wanted: [LinkResource]) throws {
        let ordered = try Self.order(wanted)
        let mtus = Self.mtus(wanted)
        try clearNames(for: wanted)
        for link in ordered {
            guard let present = try link.type.as(PortLink.self) == nil ? made(link) : renamed(link) else { continue }
            let options = Self.differences(present, link)
            if !options.isEmpty, let kind = link.type.kernelKind {
                try socket.setLink(present.index, kind: kind, data: options.map { LinkAttribute($0) })
            }
            try setMaster(of: present, link)
            // A master takes over the MTU of its first port: it has been set before.
            let mtu = try socket.links().first { $0.index == present.index }?.mtu
            if let wanted = mtus[link.name], mtu != wanted { try socket.setLink(present.index, mtu: wanted) }
        }
        // The kernel lowers a bridge's MTU with a port's, and a VLAN's with its parent's.
        let all = try socket.links()
        for link in ordered {
            guard let present = all.first(where: { $0.name == link.name }), let mtu = mtus[link.name] else { continue }
            if present.mtu != mtu { try socket.setLink(present.index, mtu: mtu) }
        }
    }

    /// Frees the names of the plan's links: another port is parked, another link of the engine is
    /// deleted.
    private func clearNames(for wanted: [LinkResource]) throws {
        for link in wanted {
            let all = try socket.links()
            guard let present = all.first(where: { $0.name == link.name }), !Self.isSame(present, link, among: all)
            else { continue }
            if Self.isOwn(present) {
                try socket.deleteLink(present.index)
            } else if Ports.isPort(present) {
                try rename(present, to: Self.parked(present))
            } else {
                throw EngineError(
                    "link \(link.name): another program made a link of this name, of the type \(present.kind ?? "card")"
                )
            }
        }
    }

    /// A link that is not a port; nil for one that a service has not made yet.
    private func made(_ wanted: LinkResource) throws -> Link? {
        if let present = try socket.links().first(where: { $0.name == wanted.name }) { return present }
        guard let kind = wanted.type.kernelKind else { return nil }
        // The mark comes before the name: after a crash every link with a plan's name has its owner.
        for name in [Self.unfinished, Self.unfinishedPeer] {
            for leftover in try socket.links() where leftover.name == name { try socket.deleteLink(leftover.index) }
        }
        let parent = try wanted.type.value.parents.first.map { name in
            guard let parent = try socket.links().first(where: { $0.name == name }) else {
                throw EngineError("link \(wanted.name): there is no link \(name)")
            }
            return parent.index
        }
        let veth = wanted.type.as(VethLink.self)
        // What changes in place is set afterwards, where it differs: a kernel may lack it.
        let options =
            wanted.type.value.options.filter(\.isFixed) + (veth?.creationOptions(peerName: Self.unfinishedPeer) ?? [])
        try socket.createLink(
            Self.unfinished, kind: kind, parent: parent, data: options.map { LinkAttribute($0) })
        if let veth { _ = try finish(Self.unfinishedPeer, veth.peer) }
        return try finish(Self.unfinished, wanted.name)
    }

    /// Marks and names a link that was made.
    private func finish(_ unfinished: String, _ name: String) throws -> Link {
        guard let made = try socket.links().first(where: { $0.name == unfinished }) else {
            throw EngineError("link \(name): another program deleted it while it was made")
        }
        try socket.addAlternativeName(Self.mark(name), to: made.index)
        try socket.renameLink(made.index, to: name)
        return made
    }

    private func renamed(_ wanted: LinkResource) throws -> Link {
        let all = try socket.links()
        guard let link = all.first(where: { Self.isSame($0, wanted, among: all) }) else {
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
        for link in try socket.links() where Self.isOwn(link) && !wanted.contains(where: { $0.name == link.name }) {
            // With one end of a veth the other is gone, with a parent its VLANs.
            try tolerant { () throws(NetlinkError) in try socket.deleteLink(link.index) }
        }
        let all = try socket.links()
        for gone in old where gone.type.as(PortLink.self) != nil {
            guard let link = all.first(where: { Self.isSame($0, gone, among: all) }),
                !wanted.contains(where: { Self.isSame(link, $0, among: all) })
            else { continue }
            if link.isUp { try socket.setLink(link.index, isUp: false) }
            if link.master != nil { try socket.setLink(link.index, master: nil) }
            if let mtu = gone.type.value.defaultMTU(parents: [], ports: []), gone.mtu != nil, link.mtu != mtu {
                try socket.setLink(link.index, mtu: mtu)
            }
        }
    }

    // MARK: - Drift

    func drift(from plan: Plan) throws -> [String] {
        Self.drift(wanted: plan.values(LinkResource.self), present: try socket.links())
    }

    /// What differs from a plan's links.
    static func drift(wanted: [LinkResource], present: [Link]) -> [String] {
        let mtus = mtus(wanted)
        var differences = wanted.compactMap { wanted -> String? in
            guard let link = present.first(where: { $0.name == wanted.name }), isSame(link, wanted, among: present)
            else { return wanted.type.as(ExternalLink.self) == nil ? "link \(wanted.name) is missing" : nil }
            if !Self.differences(link, wanted).isEmpty { return "link \(wanted.name) has other options" }
            if !link.isUp { return "link \(wanted.name) is down" }
            let master = link.master.map { present.name(of: $0) }
            if master != wanted.master {
                return
                    "link \(wanted.name) is a port of \(master ?? "nothing") instead of \(wanted.master ?? "nothing")"
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

extension LinkAttribute {
    init(_ option: LinkOption) {
        let value: Value =
            switch option.value {
            case .u8(let number): .u8(number)
            case .u16(let number): .u16(number)
            case .u32(let number): .u32(number)
            case .big16(let number): .u16(number.bigEndian)
            case .text(let text): .text(text)
            case .bytes(let bytes): .bytes(bytes)
            case .nested(let options): .nested(options.map { LinkAttribute($0) })
            }
        self.init(option.number, value)
    }
}

extension [Link] {
    func name(of index: Int) -> String { first { $0.index == index }?.name ?? "link \(index)" }
}
