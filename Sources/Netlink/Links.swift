import Addresses
import CMnl
import Glibc

/// A network interface (RTM_NEWLINK, rtnetlink(7)).
public struct Link: Sendable, Hashable {
    public var index: Int
    public var name: String
    /// `bridge`, `vlan`, `veth`, …; nil for a card.
    public var kind: String?
    /// ARPHRD_*: 1 for Ethernet, 772 for loopback.
    public var type: Int
    public var address: MACAddress?
    /// The card's own, when the driver knows it.
    public var permanentAddress: MACAddress?
    /// Bytes.
    public var mtu: Int
    /// The smallest MTU that the driver takes, in bytes; nil when it names none.
    public var minimumMTU: Int?
    /// The largest MTU that the driver takes, in bytes; nil when it names none.
    public var maximumMTU: Int?
    /// Set up by an administrator (IFF_UP).
    public var isUp: Bool
    /// The cable is in, and the other side answers (IFF_LOWER_UP).
    public var hasCarrier: Bool
    public var operationalState: OperationalState
    /// The index of the bridge, bond or VRF that it belongs to.
    public var master: Int?
    /// The index of the link that it is built on, such as the one below a VLAN, or of a veth's peer
    /// (IFLA_LINK). It counts in the namespace `parentNamespace`.
    public var parent: Int?
    /// The number of the parent's network namespace (IFLA_LINK_NETNSID); nil for the link's own.
    public var parentNamespace: Int?
    /// The attributes of its kind (IFLA_INFO_DATA), as the kernel reports them.
    public var data: [LinkAttribute]
    /// Further names.
    public var alternativeNames: [String]
    /// The device behind it, as its bus names it, such as `0000:00:03.0` or `virtio1`.
    public var parentDevice: String?

    /// IFLA_PARENT_DEV_NAME of linux/if_link.h, which older headers lack.
    private static let parentDeviceName = 56
    /// IFF_LOWER_UP of linux/if.h, which cannot be read beside net/if.h.
    private static let lowerUp: UInt32 = 1 << 16
    /// ARPHRD_LOOPBACK of linux/if_arp.h.
    private static let loopback = 772

    /// The MTU that a link has when no document sets one, in bytes: 1500, or for the loopback link
    /// 65536, within what the driver takes. A link that is built on another follows that one
    /// instead.
    public var defaultMTU: Int {
        let usual = type == Self.loopback ? 65536 : 1500
        return min(max(usual, minimumMTU ?? usual), maximumMTU ?? usual)
    }

    init?(_ answer: Answer) {
        guard answer.type == Int(RTM_NEWLINK) else { return nil }
        let body = answer.body(ifinfomsg.self)
        let attributes = answer.attributes(behind: ifinfomsg.self)
        func positive(_ type: Int) -> Int? { attributes[type].flatMap { $0.number > 0 ? $0.number : nil } }
        index = Int(body.ifi_index)
        name = attributes[Int(IFLA_IFNAME)]?.text ?? ""
        type = Int(body.ifi_type)
        address = attributes[Int(IFLA_ADDRESS)].flatMap { MACAddress($0.bytes) }
        permanentAddress = attributes[Int(IFLA_PERM_ADDRESS)].flatMap { MACAddress($0.bytes) }
        mtu = attributes[Int(IFLA_MTU)]?.number ?? 0
        minimumMTU = positive(Int(IFLA_MIN_MTU))
        maximumMTU = positive(Int(IFLA_MAX_MTU))
        isUp = body.ifi_flags & UInt32(IFF_UP) != 0
        hasCarrier = body.ifi_flags & Self.lowerUp != 0
        operationalState =
            attributes[Int(IFLA_OPERSTATE)]?.bytes.first.flatMap(OperationalState.init) ?? .unknown
        master = attributes[Int(IFLA_MASTER)]?.number
        parent = positive(Int(IFLA_LINK))
        parentNamespace = attributes[Int(IFLA_LINK_NETNSID)]?.number
        let information = attributes[Int(IFLA_LINKINFO)]?.nested ?? []
        kind = information.first { $0.0 == Int(IFLA_INFO_KIND) }?.1.text
        let inner = information.first { $0.0 == Int(IFLA_INFO_DATA) }?.1.nested ?? []
        data = inner.map(LinkAttribute.init)
        alternativeNames = (attributes[Int(IFLA_PROP_LIST)]?.nested ?? []).map(\.1.text)
        parentDevice = attributes[Self.parentDeviceName]?.text
    }
}

/// The state of a link as RFC 2863 counts it (IF_OPER_* of linux/if.h).
public enum OperationalState: UInt8, Sendable, CaseIterable {
    /// The driver does not say; most virtual links without a carrier of their own.
    case unknown = 0
    case notPresent = 1
    case down = 2
    /// A link below is down.
    case lowerLayerDown = 3
    case testing = 4
    /// Waits for another program, such as 802.1X.
    case dormant = 5
    case up = 6
}

extension RouteSocket {
    /// RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h: counters make up most of a link's message.
    private static let withoutCounters: UInt32 = 1 << 3

    private func query(_ subject: String) throws(NetlinkError) -> Message {
        let message = Message(Int(RTM_GETLINK), ifinfomsg(), about: subject)
        try message.put(Int(IFLA_EXT_MASK), Self.withoutCounters)
        return message
    }

    /// All links.
    public func links() throws(NetlinkError) -> [Link] { try dump(try query("the links")) { Link($0) } }

    /// The link of a name; nil when there is none.
    ///
    /// - Parameter name: at most 15 bytes.
    public func link(named name: String) throws(NetlinkError) -> Link? {
        let message = try query("link \(name)")
        try message.put(Int(IFLA_IFNAME), name)
        return try ask(message, none: [ENODEV]) { Link($0) }
    }
}
