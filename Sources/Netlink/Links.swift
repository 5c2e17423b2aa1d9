import Addresses
import CMnl
import Glibc

/// A network interface.
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
    public var mtu: Int
    /// Somebody wants it up.
    public var isUp: Bool
    /// The cable is in, and the other side answers.
    public var hasCarrier: Bool
    /// The index of the bridge or bond that it belongs to.
    public var master: Int?
    /// Further names.
    public var alternativeNames: [String]
    /// The device behind it, as its bus names it, such as `0000:00:03.0` or `virtio1`.
    public var parentDevice: String?

    init?(_ answer: Answer) {
        guard answer.type == Int(RTM_NEWLINK) else { return nil }
        let body = answer.body(ifinfomsg.self)
        let attributes = answer.attributes(behind: ifinfomsg.self)
        index = Int(body.ifi_index)
        name = attributes[Int(IFLA_IFNAME)]?.text ?? ""
        type = Int(body.ifi_type)
        address = attributes[Int(IFLA_ADDRESS)].flatMap { MACAddress($0.bytes) }
        permanentAddress = attributes[Int(IFLA_PERM_ADDRESS)].flatMap { MACAddress($0.bytes) }
        mtu = attributes[Int(IFLA_MTU)]?.number ?? 0
        isUp = body.ifi_flags & UInt32(IFF_UP) != 0
        hasCarrier = body.ifi_flags & 0x10000 != 0  // IFF_LOWER_UP
        master = attributes[Int(IFLA_MASTER)]?.number
        let information = attributes[Int(IFLA_LINKINFO)]?.nested ?? []
        kind = information.first { $0.0 == Int(IFLA_INFO_KIND) }?.1.text
        alternativeNames = (attributes[Int(IFLA_PROP_LIST)]?.nested ?? []).map(\.1.text)
        // IFLA_PARENT_DEV_NAME
        parentDevice = attributes[56]?.text
    }
}

extension RouteSocket {
    /// All links.
    public func links() throws(NetlinkError) -> [Link] {
        try dump({ Message(Int(RTM_GETLINK), ifinfomsg()) }, "the links") { Link($0) }
    }

    private func message(_ index: Int, flags: UInt32 = 0, change: UInt32 = 0) -> Message {
        var body = ifinfomsg()
        body.ifi_index = Int32(truncatingIfNeeded: index)
        body.ifi_flags = flags
        body.ifi_change = change
        return Message(Int(RTM_NEWLINK), body)
    }

    /// Brings a link up or down.
    public func setLink(_ index: Int, isUp: Bool) throws(NetlinkError) {
        let up = UInt32(IFF_UP)
        try change(message(index, flags: isUp ? up : 0, change: up), "link \(index) \(isUp ? "up" : "down")")
    }

    /// Gives a link another name: at most 15 bytes, without `/` and blanks.
    public func renameLink(_ index: Int, to name: String) throws(NetlinkError) {
        let message = message(index)
        message.put(Int(IFLA_IFNAME), name)
        try change(message, "link \(index) to be named \(name)")
    }

    public func setLink(_ index: Int, mtu: Int) throws(NetlinkError) {
        let message = message(index)
        message.put(Int(IFLA_MTU), UInt32(clamping: mtu))
        try change(message, "link \(index) with an MTU of \(mtu)")
    }

    public func setLink(_ index: Int, address: MACAddress) throws(NetlinkError) {
        let message = message(index)
        message.put(Int(IFLA_ADDRESS), address.bytes)
        try change(message, "link \(index) with the address \(address)")
    }

    /// Makes a link a port of a bridge, or of none.
    public func setLink(_ index: Int, master: Int?) throws(NetlinkError) {
        let message = message(index)
        message.put(Int(IFLA_MASTER), UInt32(clamping: master ?? 0))
        try change(message, "link \(index) as a port of \(master.map(String.init) ?? "nothing")")
    }

    /// Gives a link a further name.
    public func addAlternativeName(_ name: String, to index: Int) throws(NetlinkError) {
        var body = ifinfomsg()
        body.ifi_index = Int32(truncatingIfNeeded: index)
        let message = Message(Int(RTM_NEWLINKPROP), flags: NLM_F_CREATE | NLM_F_EXCL | NLM_F_APPEND, body)
        message.nest(Int(IFLA_PROP_LIST)) { message.put(Int(IFLA_ALT_IFNAME), name) }
        try change(message, "the further name \(name) of link \(index)")
    }

    /// Makes a link without a card, such as a bridge or a dummy; it is down.
    public func createLink(_ name: String, kind: String) throws(NetlinkError) {
        let message = Message(Int(RTM_NEWLINK), flags: NLM_F_CREATE | NLM_F_EXCL, ifinfomsg())
        message.put(Int(IFLA_IFNAME), name)
        message.nest(Int(IFLA_LINKINFO)) { message.put(Int(IFLA_INFO_KIND), kind) }
        try change(message, "the \(kind) \(name)")
    }

    public func deleteLink(_ index: Int) throws(NetlinkError) {
        var body = ifinfomsg()
        body.ifi_index = Int32(truncatingIfNeeded: index)
        try change(Message(Int(RTM_DELLINK), body), "the end of link \(index)")
    }
}
