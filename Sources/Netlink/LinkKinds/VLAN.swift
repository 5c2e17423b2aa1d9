import CMnl

/// Attributes of the kind `vlan` (IFLA_VLAN_* of linux/if_link.h).
public enum VLANAttribute {
    /// IFLA_VLAN_ID: u16, 0 through 4094. Fixed once the link exists.
    public static let id = Int(IFLA_VLAN_ID)
    /// IFLA_VLAN_FLAGS: `struct ifla_vlan_flags`, flags and the mask of those that change.
    public static let flags = Int(IFLA_VLAN_FLAGS)
    /// IFLA_VLAN_EGRESS_QOS: nested, one IFLA_VLAN_QOS_MAPPING a priority.
    public static let egressQoS = Int(IFLA_VLAN_EGRESS_QOS)
    /// IFLA_VLAN_QOS_MAPPING: `struct ifla_vlan_qos_mapping`, from and to as u32.
    public static let qosMapping = Int(IFLA_VLAN_QOS_MAPPING)
    /// IFLA_VLAN_PROTOCOL: the EtherType in network byte order. Fixed once the link exists.
    public static let protocolType = Int(IFLA_VLAN_PROTOCOL)
}

/// The tag of a VLAN, by its EtherType (ETH_P_* of linux/if_ether.h).
public enum VLANProtocol: UInt16, Sendable, Hashable, CaseIterable {
    /// ETH_P_8021Q: a customer's tag.
    case ieee8021Q = 0x8100
    /// ETH_P_8021AD: a provider's tag, the outer one of two.
    case ieee8021AD = 0x88A8
}

/// VLAN_FLAG_* of linux/if_vlan.h.
public struct VLANFlags: OptionSet, Sendable, Hashable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// VLAN_FLAG_REORDER_HDR: programs see frames without the tag. The kernel's default.
    public static let reorderHeader = VLANFlags(rawValue: 0x01)
    /// VLAN_FLAG_GVRP
    public static let gvrp = VLANFlags(rawValue: 0x02)
    /// VLAN_FLAG_LOOSE_BINDING: the state of the link below does not count.
    public static let looseBinding = VLANFlags(rawValue: 0x04)
    /// VLAN_FLAG_MVRP
    public static let mvrp = VLANFlags(rawValue: 0x08)
    /// VLAN_FLAG_BRIDGE_BINDING: its state follows the ports of the bridge below.
    public static let bridgeBinding = VLANFlags(rawValue: 0x10)

    static let all = VLANFlags(rawValue: 0x1F)
}

extension LinkAttribute {
    /// The data of a VLAN.
    ///
    /// - Parameters:
    ///   - id: 0 through 4094.
    ///   - flags: nil leaves them as they are, which is `reorderHeader` for a new link.
    ///   - egress: the priority in the tag (0 through 7) by the packet's own priority. The kernel
    ///     reports only priorities whose tag is not 0, and never forgets one: a change in place
    ///     must name the priority with 0.
    public static func vlan(
        id: UInt16, protocol type: VLANProtocol = .ieee8021Q, flags: VLANFlags? = nil, egress: [UInt32: UInt32] = [:]
    ) -> [LinkAttribute] {
        var data = [
            LinkAttribute(VLANAttribute.id, .u16(id)),
            LinkAttribute(VLANAttribute.protocolType, .u16(type.rawValue.bigEndian)),
        ]
        if let flags { data.append(vlan(flags: flags)) }
        if !egress.isEmpty {
            // The kernel reports priorities 0 through 15 in this order, so that the data can be
            // compared. It keeps larger ones in hash chains: compare those by `VLANData`.
            let mappings = egress.sorted { $0.key < $1.key }.map { from, to in
                LinkAttribute(
                    VLANAttribute.qosMapping, .bytes([from, to].withUnsafeBytes { Array($0) }))
            }
            data.append(.init(VLANAttribute.egressQoS, .nested(mappings)))
        }
        return data
    }

    private static func vlan(flags: VLANFlags) -> LinkAttribute {
        let words = [flags.rawValue, VLANFlags.all.rawValue]
        return LinkAttribute(VLANAttribute.flags, .bytes(words.withUnsafeBytes { Array($0) }))
    }

    /// The data of a dumped VLAN as it would be written. The kernel reports no flags where none is
    /// set, and else a mask of all bits, which it refuses in a request (`vlan_fill_info` and
    /// `vlan_dev_change_flags` of net/8021q).
    static func normalizedVLAN(_ data: [LinkAttribute]) -> [LinkAttribute] {
        let flags = data[attribute: VLANAttribute.flags]?.unsigned ?? 0
        return data.filter { $0.number != VLANAttribute.flags }
            + [vlan(flags: VLANFlags(rawValue: UInt32(truncatingIfNeeded: flags)))]
    }
}

/// What the data of a VLAN says, of a wanted or a dumped one: the two are equal when nothing is
/// left to be changed.
public struct VLANData: Sendable, Hashable {
    public var id: UInt16
    public var protocolType: VLANProtocol
    public var flags: VLANFlags
    /// The priority in the tag by the packet's own, for those whose tag is not 0.
    public var egress: [UInt32: UInt32]

    /// Nil when the data is not a VLAN's.
    public init?(_ data: [LinkAttribute]) {
        guard let id = data[attribute: VLANAttribute.id]?.unsigned,
            let type = data[attribute: VLANAttribute.protocolType]?.unsigned,
            let protocolType = VLANProtocol(rawValue: UInt16(truncatingIfNeeded: type).byteSwapped)
        else { return nil }
        self.id = UInt16(truncatingIfNeeded: id)
        self.protocolType = protocolType
        // Flags and mask in one number; the flags are its first half.
        let flags = data[attribute: VLANAttribute.flags]?.unsigned
        self.flags = flags.map { VLANFlags(rawValue: UInt32(truncatingIfNeeded: $0)) } ?? .reorderHeader
        egress = [:]
        for mapping in data[attribute: VLANAttribute.egressQoS]?.nested ?? [] {
            guard let pair = mapping.unsigned, pair >> 32 != 0 else { continue }
            egress[UInt32(truncatingIfNeeded: pair)] = UInt32(truncatingIfNeeded: pair >> 32)
        }
    }
}
