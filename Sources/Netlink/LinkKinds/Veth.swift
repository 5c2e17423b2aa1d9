import Addresses
import CMnl

/// Attributes of the kind `veth` (VETH_INFO_* of linux/veth.h). The kernel does not report them.
public enum VethAttribute {
    /// VETH_INFO_PEER: `struct ifinfomsg` and IFLA_* attributes of the other end.
    public static let peer = 1
}

extension LinkAttribute {
    /// The data of a veth: its other end, made in the same request.
    ///
    /// - Parameters:
    ///   - peer: the name of the other end.
    ///   - namespace: the network namespace of the other end; nil for the same.
    ///   - address: nil for one that the kernel makes up.
    ///   - mtu: bytes; nil for the default.
    public static func veth(
        peer: String, namespace: NamespaceReference? = nil, address: MACAddress? = nil, mtu: UInt32? = nil
    ) -> [LinkAttribute] {
        var attributes = [LinkAttribute(Int(IFLA_IFNAME), .text(peer))]
        if let address { attributes.append(.init(Int(IFLA_ADDRESS), .bytes(address.bytes))) }
        if let mtu { attributes.append(.init(Int(IFLA_MTU), .u32(mtu))) }
        switch namespace {
        case .descriptor(let file)?:
            attributes.append(.init(Int(IFLA_NET_NS_FD), .u32(UInt32(bitPattern: file))))
        case .process(let process)?:
            attributes.append(.init(Int(IFLA_NET_NS_PID), .u32(UInt32(bitPattern: process))))
        case nil: break
        }
        let head = [UInt8](repeating: 0, count: MemoryLayout<ifinfomsg>.size)
        return [.init(VethAttribute.peer, .bytes(head + LinkAttribute.encode(attributes)))]
    }
}
