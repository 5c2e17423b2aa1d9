import Addresses
import CMnl
@testable import Engine
import Glibc
@testable import Netlink
import PluginKit

extension LinkAttribute {
    /// What the engine sends of a type of link.
    static func data(of type: any LinkType) -> [LinkAttribute] { type.options.map { LinkAttribute($0) } }

    /// The other end of a veth (VETH_INFO_PEER: `struct ifinfomsg`, and IFLA_* attributes).
    ///
    /// - Parameters:
    ///   - namespace: of the other end; nil for the same.
    ///   - address: nil for one that the kernel makes up.
    ///   - mtu: bytes; nil for the default.
    static func veth(
        peer: String, namespace: NamespaceReference? = nil, address: MACAddress? = nil, mtu: UInt32? = nil
    ) -> [LinkAttribute] {
        var attributes = [LinkAttribute(Int(IFLA_IFNAME), .text(peer))]
        if let address { attributes.append(.init(Int(IFLA_ADDRESS), .bytes(address.bytes))) }
        if let mtu { attributes.append(.init(Int(IFLA_MTU), .u32(mtu))) }
        if case .descriptor(let file)? = namespace {
            attributes.append(.init(Int(IFLA_NET_NS_FD), .u32(UInt32(bitPattern: file))))
        }
        let head = [UInt8](repeating: 0, count: MemoryLayout<ifinfomsg>.size)
        return [.init(1, .bytes(head + LinkAttribute.encode(attributes)))]
    }
}

extension RouteSocket {
    /// Makes no link where the kernel lacks its kind.
    func createLinkOrNone(
        _ name: String, _ kind: String, _ parent: Int?, _ data: [LinkAttribute]
    ) throws(NetlinkError) {
        do {
            try createLink(name, kind: kind, parent: parent, data: data)
        } catch {
            guard error.code == EOPNOTSUPP else { throw error }
        }
    }
}
