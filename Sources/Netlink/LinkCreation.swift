import Addresses
import CMnl
import Glibc

/// How a request names a network namespace.
public enum NamespaceReference: Sendable, Hashable {
    /// An open descriptor of a namespace file, such as `/run/netns/guests` (IFLA_NET_NS_FD).
    case descriptor(Int32)
    /// A process within it (IFLA_NET_NS_PID).
    case process(Int32)
}

extension Message {
    func put(_ namespace: NamespaceReference) throws(NetlinkError) {
        switch namespace {
        case .descriptor(let descriptor): try put(Int(IFLA_NET_NS_FD), UInt32(bitPattern: descriptor))
        case .process(let process): try put(Int(IFLA_NET_NS_PID), UInt32(bitPattern: process))
        }
    }
}

extension RouteSocket {
    /// Makes a link without a card, in one request: there is no moment at which it exists without
    /// its settings.
    ///
    /// Throws EEXIST when the name is taken, and EOPNOTSUPP when the kernel has no such kind, as
    /// with a module that is not loaded.
    ///
    /// - Parameters:
    ///   - name: at most 15 bytes, without `/` and blanks.
    ///   - kind: the kernel's name of the kind, such as `bridge` or `vlan` (ip-link(8), TYPES).
    ///   - parent: the index of the link that it is built on; a VLAN needs one.
    ///   - data: what is particular to the kind (IFLA_INFO_DATA).
    ///   - mtu: bytes; nil for the kind's default.
    ///   - address: nil for one that the kernel makes up.
    ///   - master: the index of the bridge, bond or VRF that it becomes a port of.
    ///   - up: set up at once (IFF_UP).
    public func createLink(
        _ name: String, kind: String, parent: Int? = nil, data: [LinkAttribute] = [], mtu: Int? = nil,
        address: MACAddress? = nil, master: Int? = nil, up: Bool = false
    ) throws(NetlinkError) {
        var body = ifinfomsg()
        if up {
            body.ifi_flags = UInt32(IFF_UP)
            body.ifi_change = UInt32(IFF_UP)
        }
        let message = Message(
            Int(RTM_NEWLINK), flags: NLM_F_CREATE | NLM_F_EXCL, body, about: "the \(kind) \(name)")
        try message.put(Int(IFLA_IFNAME), name)
        if let parent { try message.put(Int(IFLA_LINK), UInt32(clamping: parent)) }
        if let mtu { try message.put(Int(IFLA_MTU), UInt32(clamping: mtu)) }
        if let address { try message.put(Int(IFLA_ADDRESS), address.bytes) }
        if let master { try message.put(Int(IFLA_MASTER), UInt32(clamping: master)) }
        try message.nest(Int(IFLA_LINKINFO)) { () throws(NetlinkError) in
            try message.put(Int(IFLA_INFO_KIND), kind)
            if !data.isEmpty {
                try message.nest(Int(IFLA_INFO_DATA)) { () throws(NetlinkError) in try message.put(data) }
            }
        }
        try change(message)
    }
}
