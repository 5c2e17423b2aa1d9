import Netlink
import PluginKit

/// What the kernel made of router advertisements (RFC 4861, RFC 4862) on a link that accepts none any
/// more. The kernel itself would keep it until its lifetime ends: hours, or for ever.
struct RouterAdvertisements {
    let socket: RouteSocket

    /// IFAPROT_KERNEL_RA (linux/if_addr.h): addresses that the kernel configured by itself.
    private static let addressOrigin: UInt8 = 2
    /// RTPROT_RA (linux/rtnetlink.h): default and more specific routes.
    private static let routeOrigin: UInt8 = 9

    /// The link of a sysctl that says whether advertisements are accepted.
    static func link(of key: String) -> String? {
        let parts = key.split(separator: "/")
        guard parts.count == 5, parts[..<3] == ["net", "ipv6", "conf"], parts[4] == "accept_ra" else { return nil }
        return String(parts[3])
    }

    /// Deletes the addresses and routes of links.
    func forget(_ names: Set<String>) throws {
        let links = Set(try socket.links().filter { names.contains($0.name) }.map(\.index))
        if links.isEmpty { return }
        for address in try socket.addresses() where links.contains(address.link) && address.origin == Self.addressOrigin
        {
            try tolerant { () throws(NetlinkError) in try socket.delete(address) }
        }
        for route in try socket.routes(origin: Self.routeOrigin) where route.link.map(links.contains) == true {
            try tolerant { () throws(NetlinkError) in try socket.delete(route) }
        }
    }
}
