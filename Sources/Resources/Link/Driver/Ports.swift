import CSystem
import Netlink
import PluginKit

/// The network ports of the hardware.
enum Ports {
    /// Cards, and, where there are none as in a network of a test's own, one end of a veth.
    static func all(_ socket: RouteSocket) throws(NetlinkError) -> [Facts.Port] {
        let links = try socket.links().filter(isPort)
        let cards = links.filter { $0.kind == nil }
        return (cards.isEmpty ? links : cards).compactMap { link in
            guard let mac = link.permanentAddress ?? link.address else { return nil }
            let (driver, path) = hardware(link.name)
            return Facts.Port(driver: driver, path: path, mac: mac)
        }
    }

    /// What the driver says of a card: its own name, and where the card is plugged in.
    private static func hardware(_ name: String) -> (driver: String, path: String) {
        var (driver, path) = ([CChar](repeating: 0, count: 32), [CChar](repeating: 0, count: 32))
        guard csystem_card(name, &driver, &path) == 0 else { return ("", "") }
        func text(_ buffer: [CChar]) -> String {
            String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
        return (text(driver), text(path))
    }

    /// True for a card, or one end of a veth.
    static func isPort(_ link: Link) -> Bool {
        link.type == 1 && (link.kind == nil || link.kind == "veth") && !LinkDriver.isOwn(link)
    }

    /// True when a link is the port that a plan means. Some cards have several ports at one place of the bus.
    static func isSame(_ link: Link, path: String, mac: MACAddress) -> Bool {
        isPort(link) && (link.permanentAddress ?? link.address) == mac
            && (path.isEmpty || hardware(link.name).path == path)
    }
}
