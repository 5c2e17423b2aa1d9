import Glibc
import Netlink
import PluginKit

/// Addresses: what is ours carries our number; what others put there is left alone.
struct AddressDriver {
    let socket: RouteSocket

    /// What is there of ours and isn't wanted, and what is wanted and isn't there.
    private func difference(
        from wanted: [(link: String, prefix: IPPrefix)]
    ) throws -> (extra: [InterfaceAddress], missing: [InterfaceAddress], links: [Link]) {
        let links = try socket.links()
        let addresses = try wanted.map {
            InterfaceAddress(link: try links.index(of: $0.link), prefix: $0.prefix, origin: LinkDriver.origin)
        }
        let present = try socket.addresses()
        return (
            present.filter { $0.origin == LinkDriver.origin && !addresses.contains($0) },
            addresses.filter { !present.contains($0) }, links
        )
    }

    func drift(from wanted: [(link: String, prefix: IPPrefix)]) throws -> [String] {
        let difference = try difference(from: wanted)
        func said(_ address: InterfaceAddress) -> String {
            "address \(address.prefix) of \(difference.links.name(of: address.link))"
        }
        return difference.extra.map { "\(said($0)) is too many" } + difference.missing.map { "\(said($0)) is gone" }
    }

    /// Has links carry these addresses, and none of ours beside them.
    func bring(_ wanted: [(link: String, prefix: IPPrefix)]) throws {
        for address in try difference(from: wanted).extra {
            try tolerant { () throws(NetlinkError) in try socket.delete(address) }
        }
        // With one address others of its network may have gone.
        for address in try difference(from: wanted).missing { try socket.add(address) }
    }
}

/// What is gone already, by the kernel's own doing, needs no second end: with a link its routes go, with an address the
/// others of its network.
func tolerant(_ body: () throws(NetlinkError) -> Void) throws {
    do {
        try body()
    } catch {
        guard [EADDRNOTAVAIL, ESRCH, ENODEV, ENOENT].contains(error.code) else { throw error }
    }
}

extension [Link] {
    /// - Throws: when there is none of that name.
    func index(of name: String) throws -> Int {
        guard let link = first(where: { $0.name == name }) else { throw EngineError("there is no link \(name)") }
        return link.index
    }

    func name(of index: Int) -> String { first { $0.index == index }?.name ?? "link \(index)" }
}
