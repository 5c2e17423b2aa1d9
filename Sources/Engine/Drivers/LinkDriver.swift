import Netlink
import PluginKit

/// Links: cards get the name of their role, bridges are made. What is there as it should be is not touched.
struct LinkDriver {
    let socket: RouteSocket

    /// RTPROT_* and IFA_PROTO of what is ours: "v". A restarted engine knows its own by it.
    static let origin: UInt8 = 118

    /// The further name of a link that we made.
    private static func mark(_ name: String) -> String { "vcpe-\(name)" }

    /// The name of a bridge in the making: with a dot, which no interface's has, it meets no mark.
    private static let unfinished = "vcpe.new"

    /// True for what we made.
    private static func isOurs(_ link: Link) -> Bool {
        link.kind == "bridge" && link.alternativeNames.contains { $0.hasPrefix(mark("")) }
    }

    /// Makes and names links, all of them down; sets masters and MTUs.
    func prepare(_ links: [LinkResource]) throws {
        try clearNames(for: links)
        // Bridges first: ports are put into them.
        for link in links where link.kind == .bridge { try prepareBridge(link) }
        for link in links where link.kind != .bridge { try preparePort(link) }
    }

    /// Takes names from links that had them and are to be something else now.
    private func clearNames(for wanted: [LinkResource]) throws {
        let all = try socket.links()
        for link in wanted {
            guard let present = all.first(where: { $0.name == link.name }), !Self.is(present, link) else { continue }
            if Self.isOurs(present) {
                try socket.deleteLink(present.index)
            } else if Ports.isPort(present) {
                try rename(present, to: "port-\(present.index)")
            } else {
                throw EngineError(
                    "link \(link.name): there is a link of that name already, a \(present.kind ?? "card") that is none of ours"
                )
            }
        }
    }

    /// True when a link is what a plan means, whatever its name.
    private static func `is`(_ link: Link, _ wanted: LinkResource) -> Bool {
        switch wanted.kind {
        case .bridge: link.kind == "bridge"
        case .port(let path, let mac): Ports.isSame(link, path: path, mac: mac)
        }
    }

    private func prepareBridge(_ wanted: LinkResource) throws {
        var all = try socket.links()
        if !all.contains(where: { $0.name == wanted.name }) {
            // It has our mark before it has its name: an engine that falls in between leaves none that is nobody's.
            for leftover in all where leftover.name == Self.unfinished { try socket.deleteLink(leftover.index) }
            try socket.createLink(Self.unfinished, kind: "bridge")
            guard let made = try socket.links().first(where: { $0.name == Self.unfinished }) else {
                throw EngineError("link \(wanted.name): the bridge that was made is gone")
            }
            try socket.addAlternativeName(Self.mark(wanted.name), to: made.index)
            try socket.renameLink(made.index, to: wanted.name)
            all = try socket.links()
        }
        if let link = all.first(where: { $0.name == wanted.name }), let mtu = wanted.mtu, link.mtu != mtu {
            try socket.setLink(link.index, mtu: mtu)
        }
    }

    private func preparePort(_ wanted: LinkResource) throws {
        guard case .port(let path, let mac) = wanted.kind else { return }
        let all = try socket.links()
        guard let link = all.first(where: { Self.is($0, wanted) }) else {
            throw EngineError(
                "link \(wanted.name): the port \(path.isEmpty ? mac.description : path) is not there any more")
        }
        if link.name != wanted.name { try rename(link, to: wanted.name) }
        if let mtu = wanted.mtu, link.mtu != mtu { try socket.setLink(link.index, mtu: mtu) }
        let master = wanted.master.flatMap { name in all.first { $0.name == name }?.index }
        if wanted.master != nil, master == nil {
            throw EngineError("link \(wanted.name): there is no bridge \(wanted.master ?? "")")
        }
        if link.master != master {
            if link.isUp { try socket.setLink(link.index, isUp: false) }
            try socket.setLink(link.index, master: master)
        }
    }

    /// A link that gets another role is down until the packet filter knows of it.
    private func rename(_ link: Link, to name: String) throws {
        if link.isUp { try socket.setLink(link.index, isUp: false) }
        try socket.renameLink(link.index, to: name)
    }

    /// What differs from a plan's links, in words.
    func drift(from wanted: [LinkResource]) throws -> [String] {
        let all = try socket.links()
        var differences = wanted.compactMap { wanted -> String? in
            guard let link = all.first(where: { $0.name == wanted.name }), Self.is(link, wanted) else {
                return "link \(wanted.name) is gone"
            }
            if !link.isUp { return "link \(wanted.name) is down" }
            let master = link.master.map { all.name(of: $0) }
            if master != wanted.master {
                return
                    "link \(wanted.name) is a port of \(master ?? "nothing"), and not of \(wanted.master ?? "nothing")"
            }
            if let mtu = wanted.mtu, link.mtu != mtu { return "link \(wanted.name) has the MTU \(link.mtu)" }
            return nil
        }
        for link in all where Self.isOurs(link) && !wanted.contains(where: { $0.name == link.name }) {
            differences.append("link \(link.name) is too many")
        }
        return differences
    }

    func bringUp(_ links: [LinkResource]) throws {
        let all = try socket.links()
        for wanted in links {
            guard let link = all.first(where: { $0.name == wanted.name }), !link.isUp else { continue }
            try socket.setLink(link.index, isUp: true)
        }
    }

    /// Takes away what we made and is no longer wanted; a card without a role goes down.
    func remove(_ old: [LinkResource], but wanted: [LinkResource]) throws {
        let all = try socket.links()
        for link in all where Self.isOurs(link) && !wanted.contains(where: { $0.name == link.name }) {
            try socket.deleteLink(link.index)
        }
        for gone in old where gone.kind != .bridge {
            guard let link = all.first(where: { Self.is($0, gone) }), !wanted.contains(where: { Self.is(link, $0) })
            else { continue }
            if link.isUp { try socket.setLink(link.index, isUp: false) }
            if link.master != nil { try socket.setLink(link.index, master: nil) }
        }
    }
}
