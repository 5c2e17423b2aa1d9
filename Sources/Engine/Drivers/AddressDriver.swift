import Netlink
import PluginKit

/// Addresses and routes: what is ours carries our number; what others put there is left alone.
struct AddressDriver {
    let socket: RouteSocket

    private func index(of name: String, in links: [Link]) throws -> Int {
        guard let link = links.first(where: { $0.name == name }) else {
            throw EngineError("there is no link \(name)")
        }
        return link.index
    }

    // MARK: - Addresses

    func add(_ wanted: [(link: String, prefix: IPPrefix)]) throws {
        let (links, present) = (try socket.links(), try socket.addresses())
        for (name, prefix) in wanted {
            let address = InterfaceAddress(
                link: try index(of: name, in: links), prefix: prefix, origin: LinkDriver.origin)
            if !present.contains(address) { try socket.add(address) }
        }
    }

    func remove(_ gone: [(link: String, prefix: IPPrefix)]) throws {
        let (links, present) = (try socket.links(), try socket.addresses())
        for (name, prefix) in gone {
            guard let link = links.first(where: { $0.name == name }),
                let address = present.first(where: { $0.link == link.index && $0.prefix == prefix })
            else { continue }
            try socket.delete(address)
        }
    }

    // MARK: - Routes

    private func route(_ resource: RouteResource, _ links: [Link]) throws -> Route {
        var link = try resource.link.map { try index(of: $0, in: links) }
        if link == nil, let gateway = resource.gateway {
            // The kernel finds it itself; found here, what it says later can be compared.
            link = try socket.addresses().first { $0.prefix.contains(gateway) }?.link
        }
        return Route(
            to: resource.destination, via: resource.gateway, link: link, metric: resource.metric,
            origin: LinkDriver.origin)
    }

    func add(_ wanted: [RouteResource]) throws {
        if wanted.isEmpty { return }
        let (links, present) = (try socket.links(), try socket.routes())
        for resource in wanted {
            let route = try route(resource, links)
            if !present.contains(route) { try socket.add(route) }
        }
    }

    func remove(_ gone: [RouteResource]) throws {
        if gone.isEmpty { return }
        let present = try socket.routes().filter { $0.origin == LinkDriver.origin }
        for resource in gone {
            for route in present
            where route.destination == resource.destination && route.metric == resource.metric {
                try socket.delete(route)
            }
        }
    }
}
