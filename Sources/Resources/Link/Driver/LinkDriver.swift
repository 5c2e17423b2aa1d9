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

    /// The name of a link before its mark is set; plans can't have names that begin with `vcpe.`.
    private static let unfinished = "vcpe.new"
    /// The same of the other end of a veth.
    private static let unfinishedPeer = "vcpe.peer"

    /// The name of a port whose name another link gets.
    private static func parked(_ link: Link) -> String { "vcpe.\(link.index)" }

    /// True for what the engine made.
    static func isOwn(_ link: Link) -> Bool { link.alternativeNames.contains { $0.hasPrefix(mark("")) } }

    /// True where a link is what a plan means, whatever its name.
    static func isSame(_ link: Link, _ wanted: LinkResource, nameOf: (Int) -> String) -> Bool {
        if let port = wanted.type.as(PortLink.self) {
            return !isOwn(link) && Ports.isSame(link, path: port.path, mac: port.mac)
        }
        if wanted.isExternal { return !isOwn(link) && link.name == wanted.name }
        guard link.kind == wanted.type.kernelKind, isOwn(link) else { return false }
        // A veth reports its other end as its parent, a VLAN the link that carries it.
        let below = wanted.type.value.parents.first ?? wanted.type.as(VethLink.self)?.peer
        if let below, link.parent.map(nameOf) != below { return false }
        return differences(link, wanted).allSatisfy { !$0.isFixed }
    }

    /// The options of a link's type that differ.
    static func differences(_ link: Link, _ wanted: LinkResource) -> [LinkOption] {
        let type = wanted.type.value
        return type.options.filter { option in
            let reported = link.data[attribute: option.number]?.payload
            return !(type.isPresent(option, reported: reported) ?? (reported == LinkAttribute(option).payload))
        }
    }

    // MARK: - Making

    /// The links that are present, by a dump that is repeated only after a change.
    private final class Present {
        private let socket: RouteSocket
        private var known: [Link]?

        init(_ socket: RouteSocket) { self.socket = socket }

        func all() throws -> [Link] {
            if let known { return known }
            let links = try socket.links()
            known = links
            return links
        }

        func named(_ name: String) throws -> Link? { try all().first { $0.name == name } }

        func isSame(_ link: Link, _ wanted: LinkResource) throws -> Bool {
            let all = try all()
            return LinkDriver.isSame(link, wanted) { index in all.name(of: index) }
        }

        /// Changes something: the next look is at what the kernel has then.
        func change(_ body: () throws -> Void) rethrows {
            known = nil
            try body()
        }
    }

    /// Makes and names links, all of them down; sets their types' options, masters and MTUs.
    private func prepare(_ wanted: [LinkResource]) throws {
        let graph = try LinkGraph(wanted)
        let present = Present(socket)
        // Ports first: a VLAN on a port that changes its role is on another link then.
        let ports = wanted.filter { $0.type.as(PortLink.self) != nil }
        for port in ports { try clearName(of: port, present) }
        for port in ports { try nameCard(port, present) }
        let names = Set(try present.all().map(\.name))
        let waiting = graph.waiting(present: names.contains)
        let made = graph.ordered.filter { $0.type.kernelKind != nil && !waiting.contains($0.name) }
        // A link that is no longer planned may have what the kernel gives only once, as a VLAN's number.
        for link in try present.all() where Self.isOwn(link) && link.parent != nil && graph.links[link.name] == nil {
            try present.change { try tolerant { () throws(NetlinkError) in try socket.deleteLink(link.index) } }
        }
        for link in made {
            try clearName(of: link, present)
            if try present.named(link.name) == nil { try make(link, present) }
        }
        let mtus = Self.mtus(graph, try present.all())
        for link in graph.ordered where !waiting.contains(link.name) {
            guard let found = try present.named(link.name) else { continue }
            let options = Self.differences(found, link)
            if !options.isEmpty, let kind = link.type.kernelKind {
                try present.change {
                    try socket.setLink(found.index, kind: kind, data: options.map { LinkAttribute($0) })
                }
            }
            try setMaster(of: found, link, present)
        }
        // The kernel changes a bond's ports with the bond, a bridge with its ports, a VLAN with its parent.
        for _ in 0..<2 {
            for link in graph.ordered where !waiting.contains(link.name) {
                guard let mtu = mtus[link.name], let found = try present.named(link.name), found.mtu != mtu else {
                    continue
                }
                try present.change { try socket.setLink(found.index, mtu: mtu) }
            }
        }
    }

    /// The MTUs of a plan's links by name.
    static func mtus(_ graph: LinkGraph, _ present: [Link]) -> [String: Int] {
        let byName = Dictionary(present.map { ($0.name, $0) }) { $1 }
        return graph.mtus { byName[$0.name]?.defaultMTU ?? MTURule.ethernet }
    }

    /// Frees the name of a planned link: another port is parked, another link of the engine is deleted.
    private func clearName(of link: LinkResource, _ present: Present) throws {
        guard let found = try present.named(link.name), try !present.isSame(found, link) else { return }
        // The modules of some types make links of their own when they are loaded, such as bond0.
        let isModules =
            found.kind != nil && found.kind == link.type.kernelKind && !found.isUp && found.master == nil
        if Self.isOwn(found) || isModules {
            try present.change { try socket.deleteLink(found.index) }
        } else if Ports.isPort(found) {
            try present.change { try rename(found, to: Self.parked(found)) }
        } else {
            throw EngineError(
                "link \(link.name): another program made a link of this name, of the type \(found.kind ?? "card")")
        }
    }

    private func make(_ wanted: LinkResource, _ present: Present) throws {
        guard let kind = wanted.type.kernelKind else { return }
        // The mark comes before the name: after a crash every link with a plan's name has its owner.
        for name in [Self.unfinished, Self.unfinishedPeer] {
            if let leftover = try present.named(name) { try present.change { try socket.deleteLink(leftover.index) } }
        }
        let parent = try wanted.type.value.parents.first.map { name in
            guard let parent = try present.named(name) else {
                throw EngineError("link \(wanted.name): there is no link \(name)")
            }
            return parent.index
        }
        let veth = wanted.type.as(VethLink.self)
        // What changes in place is set afterwards, where it differs: a kernel may lack it.
        let options =
            wanted.type.value.options.filter(\.isFixed) + (veth?.creationOptions(peerName: Self.unfinishedPeer) ?? [])
        try present.change {
            try socket.createLink(Self.unfinished, kind: kind, parent: parent, data: options.map { LinkAttribute($0) })
        }
        if let veth {
            // Loading the module may have made a link of the name.
            if let other = try present.named(veth.peer), Self.isOwn(other) {
                try present.change { try socket.deleteLink(other.index) }
            }
            try finish(Self.unfinishedPeer, veth.peer, present)
        }
        try clearName(of: wanted, present)
        try finish(Self.unfinished, wanted.name, present)
    }

    /// Marks and names a link that was made.
    private func finish(_ unfinished: String, _ name: String, _ present: Present) throws {
        guard let made = try present.named(unfinished) else {
            throw EngineError("link \(name): another program deleted it while it was made")
        }
        try present.change {
            try socket.addAlternativeName(Self.mark(name), to: made.index)
            try socket.renameLink(made.index, to: name)
        }
    }

    private func nameCard(_ wanted: LinkResource, _ present: Present) throws {
        guard let link = try present.all().first(where: { try present.isSame($0, wanted) }) else {
            let port = wanted.type.as(PortLink.self).map { $0.path.isEmpty ? $0.mac.description : $0.path }
            throw EngineError("link \(wanted.name): the port \(port ?? "") is absent")
        }
        if link.name != wanted.name { try present.change { try rename(link, to: wanted.name) } }
    }

    /// A link that gets another role is down until the packet filter has the role.
    private func rename(_ link: Link, to name: String) throws {
        if link.isUp { try socket.setLink(link.index, isUp: false) }
        try socket.renameLink(link.index, to: name)
    }

    private func setMaster(of link: Link, _ wanted: LinkResource, _ present: Present) throws {
        // A service may put its own link into a bridge of its own.
        if wanted.master == nil, wanted.isExternal { return }
        let master = try wanted.master.map { name in
            guard let master = try present.named(name) else {
                throw EngineError("link \(wanted.name): there is no link \(name)")
            }
            return master.index
        }
        guard link.master != master else { return }
        try present.change {
            if link.isUp { try socket.setLink(link.index, isUp: false) }
            try socket.setLink(link.index, master: master)
        }
    }

    /// Parents first: a VLAN can't be up while its parent is down. A service sets its own link up.
    private func setUp(_ wanted: [LinkResource]) throws {
        let down = Dictionary(try socket.links().filter { !$0.isUp }.map { ($0.name, $0.index) }) { $1 }
        for link in try LinkGraph(wanted).ordered where !link.isExternal {
            if let index = down[link.name] { try socket.setLink(index, isUp: true) }
        }
    }

    // MARK: - Removing

    /// Deletes what the engine made and no plan has; a port without a role goes down, with its default
    /// MTU.
    private func remove(_ old: [LinkResource], except wanted: [LinkResource]) throws {
        let names = Set(wanted.map(\.name))
        for link in try socket.links() where Self.isOwn(link) && !names.contains(link.name) {
            // With one end of a veth the other is gone, with a parent its VLANs.
            try tolerant { () throws(NetlinkError) in try socket.deleteLink(link.index) }
        }
        let all = try socket.links()
        func isSame(_ link: Link, _ port: LinkResource) -> Bool { Self.isSame(link, port) { all.name(of: $0) } }
        let ports = wanted.filter { $0.type.as(PortLink.self) != nil }
        for gone in old where gone.type.as(PortLink.self) != nil {
            guard let link = all.first(where: { isSame($0, gone) }), !ports.contains(where: { isSame(link, $0) }) else {
                continue
            }
            if link.isUp { try socket.setLink(link.index, isUp: false) }
            if link.master != nil { try socket.setLink(link.index, master: nil) }
            if link.mtu != link.defaultMTU { try socket.setLink(link.index, mtu: link.defaultMTU) }
        }
    }

    // MARK: - Drift

    func drift(from plan: Plan) throws -> [String] {
        try Self.drift(wanted: plan.values(LinkResource.self), present: try socket.links())
    }

    /// What differs from a plan's links.
    static func drift(wanted: [LinkResource], present: [Link]) throws -> [String] {
        let graph = try LinkGraph(wanted)
        let mtus = mtus(graph, present)
        let byName = Dictionary(present.map { ($0.name, $0) }) { $1 }
        let names = Dictionary(present.map { ($0.index, $0.name) }) { $1 }
        let waiting = graph.waiting { byName[$0] != nil }
        func name(_ index: Int) -> String { names[index] ?? "link \(index)" }
        var differences = wanted.compactMap { wanted -> String? in
            if waiting.contains(wanted.name) { return nil }
            guard let link = byName[wanted.name], isSame(link, wanted, nameOf: name) else {
                return "link \(wanted.name) is missing"
            }
            if !Self.differences(link, wanted).isEmpty { return "link \(wanted.name) has other options" }
            if !link.isUp, !wanted.isExternal { return "link \(wanted.name) is down" }
            let master = link.master.map(name)
            if master != wanted.master, !wanted.isExternal || wanted.master != nil {
                return
                    "link \(wanted.name) is a port of \(master ?? "nothing") instead of \(wanted.master ?? "nothing")"
            }
            if let mtu = mtus[wanted.name], link.mtu != mtu {
                return "link \(wanted.name) has the MTU \(link.mtu) instead of \(mtu)"
            }
            return nil
        }
        for link in present where isOwn(link) && graph.links[link.name] == nil {
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
            case .bytes(let bytes): .bytes(bytes)
            case .nested(let options): .nested(options.map { LinkAttribute($0) })
            }
        self.init(option.number, value)
    }
}

extension [Link] {
    func name(of index: Int) -> String { first { $0.index == index }?.name ?? "link \(index)" }
}
