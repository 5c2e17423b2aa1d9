import CMnl

/// Attributes of the kind `bond` (IFLA_BOND_* of linux/if_link.h).
public enum BondAttribute {
    /// IFLA_BOND_MODE: u8, BOND_MODE_*. Changes only while the bond has no ports.
    public static let mode = Int(IFLA_BOND_MODE)
    /// IFLA_BOND_MIIMON: u32, milliseconds between two checks of the carrier; 0 for none.
    public static let miimon = Int(IFLA_BOND_MIIMON)
    /// IFLA_BOND_XMIT_HASH_POLICY: u8, BOND_XMIT_POLICY_*.
    public static let transmitHashPolicy = Int(IFLA_BOND_XMIT_HASH_POLICY)
    /// IFLA_BOND_AD_LACP_RATE: u8, 0 slow (30 s), 1 fast (1 s). Changes only while the bond is
    /// down.
    public static let lacpRate = Int(IFLA_BOND_AD_LACP_RATE)
    /// IFLA_BOND_AD_SELECT: u8, BOND_AD_*. Changes only while the bond is down.
    public static let aggregatorSelection = Int(IFLA_BOND_AD_SELECT)
}

/// BOND_MODE_* of linux/if_bonding.h.
public enum BondMode: UInt8, Sendable, Hashable, CaseIterable {
    case roundRobin = 0
    case activeBackup = 1
    case xor = 2
    case broadcast = 3
    /// LACP (IEEE 802.1AX).
    case ieee8023AD = 4
    case transmitLoadBalancing = 5
    case adaptiveLoadBalancing = 6
}

/// BOND_XMIT_POLICY_* of linux/if_bonding.h.
public enum BondTransmitHashPolicy: UInt8, Sendable, Hashable, CaseIterable {
    case layer2 = 0
    case layer34 = 1
    case layer23 = 2
    case encapsulation23 = 3
    case encapsulation34 = 4
    case vlanAndSourceMAC = 5
}

/// How often the peer is to send LACP frames (AD_LACP_* of linux/if_bonding.h,
/// include/net/bond_3ad.h).
public enum BondLACPRate: UInt8, Sendable, Hashable, CaseIterable {
    /// Every 30 seconds.
    case slow = 0
    /// Every second.
    case fast = 1
}

/// Which aggregator is used (`ad_select` of Documentation/networking/bonding.rst).
public enum BondAggregatorSelection: UInt8, Sendable, Hashable, CaseIterable {
    /// Stays until it has no port left.
    case stable = 0
    /// The one with the most bandwidth.
    case bandwidth = 1
    /// The one with the most ports.
    case count = 2
}

extension LinkAttribute {
    /// The data of a bond; nil leaves a setting at the kernel's default.
    ///
    /// - Parameters:
    ///   - miimon: milliseconds between two checks of the carrier.
    ///   - lacpRate: for `ieee8023AD` alone, else EINVAL or EACCES.
    ///   - aggregatorSelection: for `ieee8023AD`.
    public static func bond(
        mode: BondMode, miimon: UInt32? = nil, transmitHashPolicy: BondTransmitHashPolicy? = nil,
        lacpRate: BondLACPRate? = nil, aggregatorSelection: BondAggregatorSelection? = nil
    ) -> [LinkAttribute] {
        var data = [LinkAttribute(BondAttribute.mode, .u8(mode.rawValue))]
        if let miimon { data.append(.init(BondAttribute.miimon, .u32(miimon))) }
        if let transmitHashPolicy {
            data.append(.init(BondAttribute.transmitHashPolicy, .u8(transmitHashPolicy.rawValue)))
        }
        if let lacpRate { data.append(.init(BondAttribute.lacpRate, .u8(lacpRate.rawValue))) }
        if let aggregatorSelection {
            data.append(.init(BondAttribute.aggregatorSelection, .u8(aggregatorSelection.rawValue)))
        }
        return data
    }
}
