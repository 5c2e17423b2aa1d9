import PluginKit

/// The links of a plan with what they depend on: masters, parents, and the MTUs that follow from them.
struct LinkGraph {
    /// By name.
    let links: [String: LinkResource]
    /// Links after their masters and parents.
    let ordered: [LinkResource]
    private let ports: [String: [LinkResource]]

    /// - Throws: where links depend on each other in a circle, or the ends of a veth do not name each
    ///   other.
    init(_ wanted: [LinkResource]) throws {
        links = Dictionary(wanted.map { ($0.name, $0) }) { $1 }
        ports = Dictionary(grouping: wanted.filter { $0.master != nil }) { $0.master ?? "" }
        let links = links
        var (ordered, done, active): ([LinkResource], Set<String>, Set<String>) = ([], [], [])
        func add(_ link: LinkResource) throws {
            if done.contains(link.name) { return }
            guard active.insert(link.name).inserted else {
                throw EngineError("link \(link.name): links depend on each other in a circle")
            }
            for name in Self.needs(link) { try links[name].map(add) }
            done.insert(link.name)
            ordered.append(link)
        }
        for link in wanted {
            try add(link)
            if let peer = link.type.as(VethLink.self)?.peer, links[peer]?.type.as(VethLink.self)?.peer != link.name {
                throw EngineError("link \(link.name): its other end \(peer) must be a veth whose peer is \(link.name)")
            }
        }
        self.ordered = ordered
    }

    private static func needs(_ link: LinkResource) -> [String] {
        link.type.value.parents + [link.master].compactMap { $0 }
    }

    /// Links that a service has not made yet, and those that need them.
    func waiting(present: (String) -> Bool) -> Set<String> {
        var waiting: Set<String> = []
        for link in ordered {
            let isAbsent = link.isExternal && !present(link.name)
            if isAbsent || Self.needs(link).contains(where: waiting.contains) { waiting.insert(link.name) }
        }
        return waiting
    }

    /// The MTU of each link; nil where the plan leaves it as it is.
    ///
    /// - Parameter port: the MTU of a port of the hardware without a planned one, in bytes.
    func mtus(port: (LinkResource) -> Int?) -> [String: Int] {
        var mtus: [String: Int] = [:]
        var active: Set<String> = []
        func mtu(_ link: LinkResource) -> Int? {
            if let known = mtus[link.name] ?? link.mtu { return known }
            // A bridge's port may be a VLAN of that bridge.
            guard active.insert(link.name).inserted else { return nil }
            defer { active.remove(link.name) }
            let master = link.master.flatMap { links[$0] }
            if let master, master.type.value.isMTUOfPorts { return mtu(master) }
            switch link.type.value.mtuRule {
            case .hardware: return port(link)
            case .fixed(let bytes): return bytes
            case .parent: return link.type.value.parents.first.flatMap { links[$0] }.flatMap(mtu)
            case .ports:
                return ports[link.name]?.compactMap(mtu).min() ?? MTURule.ethernet
            case .none: return nil
            }
        }
        for link in ordered { mtus[link.name] = mtu(link) }
        return mtus
    }
}
