import CMnl

/// Attributes of the kind `bridge` (IFLA_BR_* of linux/if_link.h). All of them change in place.
public enum BridgeAttribute {
    /// IFLA_BR_FORWARD_DELAY: u32, hundredths of a second.
    public static let forwardDelay = Int(IFLA_BR_FORWARD_DELAY)
    /// IFLA_BR_STP_STATE: u32, 0 for off; 1 for the kernel's own, 2 for a program's (only
    /// reported).
    public static let stpState = Int(IFLA_BR_STP_STATE)
    /// IFLA_BR_VLAN_FILTERING: u8, 0 or 1.
    public static let vlanFiltering = Int(IFLA_BR_VLAN_FILTERING)
}

extension LinkAttribute {
    /// The data of a bridge; nil leaves a setting as it is, or at the kernel's default.
    ///
    /// - Parameters:
    ///   - vlanFiltering: ports drop frames of VLANs that they are no members of.
    ///   - stp: the kernel speaks the Spanning Tree Protocol.
    ///   - forwardDelay: hundredths of a second; with STP 200 through 3000, else ERANGE.
    public static func bridge(
        vlanFiltering: Bool? = nil, stp: Bool? = nil, forwardDelay: UInt32? = nil
    ) -> [LinkAttribute] {
        var data: [LinkAttribute] = []
        // The delay first: the kernel checks its range against the state of STP at that moment.
        if let forwardDelay { data.append(.init(BridgeAttribute.forwardDelay, .u32(forwardDelay))) }
        if let stp { data.append(.init(BridgeAttribute.stpState, .u32(stp ? 1 : 0))) }
        if let vlanFiltering { data.append(.init(BridgeAttribute.vlanFiltering, .u8(vlanFiltering ? 1 : 0))) }
        return data
    }
}
