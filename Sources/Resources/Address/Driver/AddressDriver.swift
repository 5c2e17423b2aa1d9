import Glibc
import Netlink
import PluginKit

extension AddressResource: DrivenResource { typealias ItsDriver = AddressDriver }

/// Addresses of links. The engine's own carry its protocol number (IFA_PROTO); others are not touched.
struct AddressDriver: Driver {
    static let watch = DriftWatch.netlink

    private let socket: RouteSocket

    init(_ context: DriverContext) { socket = context.socket }

    func steps(_ change: KindChange<AddressResource>) -> [Step] {
        [Step(.addresses) { try self.converge(change.wanted) }]
    }

    /// The wanted addresses in the kernel's form.
    static func addresses(_ wanted: [AddressResource], _ links: [Link]) throws -> [InterfaceAddress] {
        try wanted.map {
            InterfaceAddress(link: try links.index(of: $0.link), prefix: $0.prefix, origin: LinkDriver.origin)
        }
    }

    static func difference(
        wanted: [InterfaceAddress], present: [InterfaceAddress]
    ) -> Difference<InterfaceAddress, InterfaceAddress> {
        let (isWanted, isPresent) = (Set(wanted), Set(present))
        return Difference(
            extra: present.filter { $0.origin == LinkDriver.origin && !isWanted.contains($0) },
            missing: wanted.filter { !isPresent.contains($0) })
    }

    private func difference(
        _ wanted: [AddressResource], _ links: [Link]
    ) throws -> Difference<InterfaceAddress, InterfaceAddress> {
        Self.difference(wanted: try Self.addresses(wanted, links), present: try socket.addresses())
    }

    func drift(from wanted: [AddressResource]) throws -> [String] {
        let links = try socket.links()
        let difference = try difference(wanted, links)
        func text(_ address: InterfaceAddress) -> String {
            "address \(address.prefix) of \(links.name(of: address.link))"
        }
        return difference.extra.map { "\(text($0)) is not planned" }
            + difference.missing.map { "\(text($0)) is missing" }
    }

    private func converge(_ wanted: [AddressResource]) throws {
        let links = try socket.links()
        for address in try difference(wanted, links).extra {
            try tolerant { () throws(NetlinkError) in try socket.delete(address) }
        }
        // The kernel may have deleted other addresses of the same network with one.
        for address in try difference(wanted, links).missing { try socket.add(address) }
    }
}

/// Ignores that something is deleted already: the kernel deletes routes with their link, and
/// addresses with another one of their network.
func tolerant(_ body: () throws(NetlinkError) -> Void) throws {
    do {
        try body()
    } catch {
        guard [EADDRNOTAVAIL, ESRCH, ENODEV, ENOENT].contains(error.code) else { throw error }
    }
}

extension [Link] {
    /// - Throws: where no link has the name.
    func index(of name: String) throws -> Int {
        guard let link = first(where: { $0.name == name }) else { throw EngineError("there is no link \(name)") }
        return link.index
    }

    func name(of index: Int) -> String { first { $0.index == index }?.name ?? "link \(index)" }
}
