import Netlink
import PluginKit

/// Links: cards get the name of their role, bridges are made. What is there as it should be is not touched.
struct LinkDriver {
    let socket: RouteSocket

    /// RTPROT_* and IFA_PROTO of what is ours: "v". A restarted engine knows its own by it.
    static let origin: UInt8 = 118

    /// The further name of a link that we made.
    private static func mark(_ name: String) -> String { "vcpe-\(name)" }

    /// Makes and names links, all of them down; sets masters and MTUs.
    func prepare(_ links: [LinkResource]) throws {
        // Bridges first: ports are put into them.
        for link in links where link.kind == .bridge { try prepareBridge(link) }
        for link in links where link.kind != .bridge { try preparePort(link) }
    }

    private func prepareBridge(_ wanted: LinkResource) throws {
        var all = try socket.links()
        if let other = all.first(where: { $0.name == wanted.name }), other.kind != "bridge" {
            throw EngineError("link \(wanted.name): there is a link of that name that is no bridge")
        }
        if !all.contains(where: { $0.name == wanted.name }) {
            try socket.createLink(wanted.name, kind: "bridge")
            all = try socket.links()
            if let made = all.first(where: { $0.name == wanted.name }) {
                try socket.addAlternativeName(Self.mark(wanted.name), to: made.index)
            }
        }
        if let link = all.first(where: { $0.name == wanted.name }), let mtu = wanted.mtu, link.mtu != mtu {
            try socket.setLink(link.index, mtu: mtu)
        }
    }

    private func preparePort(_ wanted: LinkResource) throws {
        guard case .port(let path, let mac) = wanted.kind else { return }
        let all = try socket.links()
        guard let link = all.first(where: { Ports.isSame($0, path: path, mac: mac) }) else {
            throw EngineError(
                "link \(wanted.name): the port \(path.isEmpty ? mac.description : path) is not there any more")
        }
        if link.name != wanted.name {
            if let other = all.first(where: { $0.name == wanted.name }) {
                // Two ports that change their roles: the other's new name comes in its own turn.
                try rename(other, to: "port-\(other.index)")
            }
            try rename(link, to: wanted.name)
        }
        if let mtu = wanted.mtu, link.mtu != mtu { try socket.setLink(link.index, mtu: mtu) }
        let master = wanted.master.flatMap { name in all.first { $0.name == name }?.index }
        if wanted.master != nil, master == nil {
            throw EngineError("link \(wanted.name): there is no bridge \(wanted.master ?? "")")
        }
        if link.master != master { try socket.setLink(link.index, master: master) }
    }

    private func rename(_ link: Link, to name: String) throws {
        do {
            try socket.renameLink(link.index, to: name)
        } catch {
            // Older kernels rename only what is down.
            try socket.setLink(link.index, isUp: false)
            try socket.renameLink(link.index, to: name)
        }
    }

    func bringUp(_ links: [LinkResource]) throws {
        let all = try socket.links()
        for wanted in links {
            guard let link = all.first(where: { $0.name == wanted.name }), !link.isUp else { continue }
            try socket.setLink(link.index, isUp: true)
        }
    }

    /// Takes away what we made; a card goes down.
    func remove(_ links: [LinkResource]) throws {
        let all = try socket.links()
        for gone in links {
            guard let link = all.first(where: { $0.name == gone.name }) else { continue }
            if gone.kind == .bridge {
                if link.alternativeNames.contains(Self.mark(gone.name)) { try socket.deleteLink(link.index) }
            } else {
                if link.master != nil { try socket.setLink(link.index, master: nil) }
                try socket.setLink(link.index, isUp: false)
            }
        }
    }
}
