import CMnl

/// Attributes of the kind `vrf` (IFLA_VRF_* of linux/if_link.h).
public enum VRFAttribute {
    /// IFLA_VRF_TABLE: u32, the routing table of its ports. Fixed once the link exists.
    public static let table = Int(IFLA_VRF_TABLE)
}

extension LinkAttribute {
    /// The data of a VRF.
    ///
    /// A port that joins loses its IPv6 addresses: a VRF comes before the addresses of its ports
    /// (Documentation/networking/vrf.rst).
    ///
    /// - Parameter table: the number of its routing table; 0 is refused (EINVAL).
    public static func vrf(table: UInt32) -> [LinkAttribute] { [.init(VRFAttribute.table, .u32(table))] }
}
