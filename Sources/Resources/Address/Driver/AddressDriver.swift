import Glibc
import Netlink
import Planning
import PluginKit

extension AddressResource: DrivenResource { typealias ItsDriver = AddressDriver }

/// Addresses of links. The engine's own carry its protocol number (IFA_PROTO); others are not touched.
struct AddressDriver: Driver {
    static let watch = DriftWatch.netlink

    private let socket: RouteSocket
    private let now: () -> Int

    init(_ context: DriverContext) { (socket, now) = (context.socket, context.now) }

    func steps(_ change: KindChange<AddressResource>) -> [Step] {
        [Step(.addresses) { try self.converge(change.wanted, change.plans.new) }]
    }

    /// Lifetimes count down: a difference of this many seconds is none.
    private static let tolerance = 5

    /// The wanted addresses in the kernel's form. Those of a link that waits for a service
    /// are left out, and expired ones.
    ///
    /// - Parameter now: seconds since 1970.
    static func addresses(
        _ wanted: [AddressResource], _ links: PlannedLinks, now: Int
    ) throws -> [InterfaceAddress] {
        try wanted.compactMap { address in
            guard let link = try links.index(of: address.link) else { return nil }
            // An expired address is not wanted any more.
            if let end = address.validUntil, end <= now { return nil }
            // The kernel counts in 32 bits, and takes the largest number for "for ever".
            func left(_ end: Int?) -> Int? {
                end.flatMap { $0 - now < Int(UInt32.max) - 1 ? max($0 - now, 0) : nil }
            }
            return InterfaceAddress(
                link: link, prefix: address.prefix, origin: LinkDriver.origin, peer: address.peer,
                hasNoPrefixRoute: address.hasNoPrefixRoute, detectsDuplicates: address.detectsDuplicates,
                validLifetime: left(address.validUntil),
                preferredLifetime: left(address.preferredUntil)
            ).normalForm
        }
    }

    static func difference(
        wanted: [InterfaceAddress], present: [InterfaceAddress]
    ) -> Difference<InterfaceAddress, InterfaceAddress> {
        struct Place: Hashable {
            var link: Int
            var prefix: IPPrefix
        }
        func place(_ address: InterfaceAddress) -> Place { Place(link: address.link, prefix: address.prefix) }
        let wantedByPlace = Dictionary(wanted.map { (place($0), $0) }) { $1 }
        let presentByPlace = Dictionary(present.map { (place($0), $0) }) { $1 }
        /// The kernel changes lifetimes in place, and nothing else.
        func mustGo(_ address: InterfaceAddress) -> Bool {
            guard let wanted = wantedByPlace[place(address)] else { return address.origin == LinkDriver.origin }
            return wanted.peer != address.peer || wanted.hasNoPrefixRoute != address.hasNoPrefixRoute
        }
        return Difference(
            extra: present.filter(mustGo),
            missing: wanted.filter { wanted in
                guard let present = presentByPlace[place(wanted)] else { return true }
                return !wanted.agrees(with: present, within: tolerance)
            })
    }

    private func difference(
        _ wanted: [AddressResource], _ plan: Plan
    ) throws -> (Difference<InterfaceAddress, InterfaceAddress>, PlannedLinks) {
        let links = try PlannedLinks(plan, present: try socket.links())
        let wanted = try Self.addresses(wanted, links, now: now())
        return (Self.difference(wanted: wanted, present: try socket.addresses()), links)
    }

    func drift(from plan: Plan) throws -> [String] {
        let (difference, links) = try difference(plan.values(AddressResource.self), plan)
        func text(_ address: InterfaceAddress) -> String {
            "address \(address.prefix) of \(links.name(of: address.link))"
        }
        return difference.extra.map { "\(text($0)) is not planned" }
            + difference.missing.map { "\(text($0)) is missing" }
    }

    private func converge(_ wanted: [AddressResource], _ plan: Plan) throws {
        for address in try difference(wanted, plan).0.extra {
            try tolerant { () throws(NetlinkError) in try socket.delete(address) }
        }
        // The kernel may have deleted other addresses of the same network with one.
        for address in try difference(wanted, plan).0.missing { try socket.add(address) }
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
