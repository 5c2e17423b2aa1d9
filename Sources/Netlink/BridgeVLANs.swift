import CMnl
import Glibc

/// The membership of a bridge's port, or of the bridge itself, in a VLAN (linux/if_bridge.h).
public struct BridgeVLAN: Sendable, Hashable {
    public struct Flags: Sendable, Hashable {
        /// BRIDGE_VLAN_INFO_UNTAGGED: frames leave without a tag.
        public var isUntagged: Bool
        /// BRIDGE_VLAN_INFO_PVID: frames that arrive without a tag belong to it.
        public var isDefault: Bool

        public init(isUntagged: Bool, isDefault: Bool) {
            (self.isUntagged, self.isDefault) = (isUntagged, isDefault)
        }
    }

    /// The index of the port or of the bridge.
    public var link: Int
    /// 1 through 4094.
    public var vlan: Int
    public var flags: Flags

    public init(link: Int, vlan: Int, flags: Flags) { (self.link, self.vlan, self.flags) = (link, vlan, flags) }
}

/// Numbers of linux/if_bridge.h and linux/rtnetlink.h, whose names libmnl's headers do not bring.
private enum Bridging {
    /// AF_BRIDGE (PF_BRIDGE of linux/socket.h).
    static let family: UInt8 = 7
    /// RTEXT_FILTER_BRVLAN_COMPRESSED: VLANs in ranges.
    static let inRanges: UInt32 = 1 << 2
    /// IFLA_BRIDGE_FLAGS with BRIDGE_FLAGS_SELF: the bridge itself instead of its master.
    static let flags = 0
    static let itself: UInt16 = 2
    /// IFLA_BRIDGE_VLAN_INFO: `struct bridge_vlan_info`, flags and identifier of 16 bits each.
    static let vlan = 2
    /// BRIDGE_VLAN_INFO_*.
    static let isDefault: UInt16 = 1 << 1
    static let isUntagged: UInt16 = 1 << 2
    static let isFirst: UInt16 = 1 << 3
    static let isLast: UInt16 = 1 << 4
}

extension RouteSocket {
    /// The VLANs of all bridges and of their ports.
    public func bridgeVLANs() throws(NetlinkError) -> [BridgeVLAN] {
        var body = ifinfomsg()
        body.ifi_family = Bridging.family
        let message = Message(Int(RTM_GETLINK), body, about: "the VLANs of bridges")
        try message.put(Int(IFLA_EXT_MASK), Bridging.inRanges)
        return try dump(message) { BridgeVLAN.list($0) }.flatMap { $0 }
    }

    /// Makes a port a member of VLANs, or changes the flags of its membership.
    ///
    /// - Parameters:
    ///   - last: the last VLAN of the range that begins with `vlan`; more than one have no default.
    ///   - isBridge: whether the link is the bridge itself.
    public func add(_ vlan: BridgeVLAN, through last: Int, isBridge: Bool) throws(NetlinkError) {
        try change(vlan, last, isBridge, Int(RTM_SETLINK), "")
    }

    /// Ends a port's membership. The parameters are those of ``add(_:through:isBridge:)``.
    public func delete(_ vlan: BridgeVLAN, through last: Int, isBridge: Bool) throws(NetlinkError) {
        try change(vlan, last, isBridge, Int(RTM_DELLINK), "the removal of ")
    }

    private func change(
        _ vlan: BridgeVLAN, _ last: Int, _ isBridge: Bool, _ type: Int, _ what: String
    ) throws(NetlinkError) {
        var body = ifinfomsg()
        body.ifi_family = Bridging.family
        body.ifi_index = Int32(truncatingIfNeeded: vlan.link)
        let message = Message(type, body, about: "\(what)VLANs \(vlan.vlan) to \(last) of link \(vlan.link)")
        try message.nest(Int(IFLA_AF_SPEC)) { () throws(NetlinkError) in
            if isBridge { try message.put(Bridging.flags, Bridging.itself) }
            if last == vlan.vlan {
                try message.put(Bridging.vlan, vlan.flags.encoded(vlan.vlan))
            } else {
                try message.put(Bridging.vlan, vlan.flags.encoded(vlan.vlan, Bridging.isFirst))
                try message.put(Bridging.vlan, vlan.flags.encoded(last, Bridging.isLast))
            }
        }
        try change(message)
    }
}

extension BridgeVLAN.Flags {
    /// `struct bridge_vlan_info`.
    fileprivate func encoded(_ vlan: Int, _ more: UInt16 = 0) -> [UInt8] {
        let bits = (isDefault ? Bridging.isDefault : 0) | (isUntagged ? Bridging.isUntagged : 0) | more
        return withUnsafeBytes(of: bits) { Array($0) } + withUnsafeBytes(of: UInt16(clamping: vlan)) { Array($0) }
    }
}

extension BridgeVLAN {
    /// What one port reports; nil for a message without VLANs.
    static func list(_ answer: Answer) -> [BridgeVLAN]? {
        guard answer.type == Int(RTM_NEWLINK) else { return nil }
        let link = Int(answer.body(ifinfomsg.self).ifi_index)
        guard let own = answer.attributes(behind: ifinfomsg.self)[Int(IFLA_AF_SPEC)] else { return nil }
        return list(own.nested.filter { $0.0 == Bridging.vlan }.map(\.1.bytes), of: link)
    }

    /// Entries of IFLA_BRIDGE_VLAN_INFO; a range has one for its first and one for its last VLAN.
    static func list(_ entries: [[UInt8]], of link: Int) -> [BridgeVLAN] {
        var (vlans, first): ([BridgeVLAN], Int?) = ([], nil)
        for entry in entries where entry.count == 4 {
            func number(_ index: Int) -> UInt16 {
                UInt16(littleEndian: UInt16(entry[index]) | UInt16(entry[index + 1]) << 8)
            }
            let (bits, vlan) = (number(0), Int(number(2)))
            if bits & Bridging.isFirst != 0 {
                first = vlan
                continue
            }
            let start = bits & Bridging.isLast != 0 ? first ?? vlan : vlan
            first = nil
            let flags = Flags(isUntagged: bits & Bridging.isUntagged != 0, isDefault: bits & Bridging.isDefault != 0)
            if start <= vlan { vlans += (start...vlan).map { BridgeVLAN(link: link, vlan: $0, flags: flags) } }
        }
        return vlans
    }
}
