/// A bridge (IEEE 802.1D).
public struct BridgeLink: LinkType {
    public static let name = "bridge"
    public static let kernelKind: String? = "bridge"

    /// Ports drop frames of VLANs that they are not members of.
    public var filtersVLANs: Bool

    public init(filtersVLANs: Bool = false) { self.filtersVLANs = filtersVLANs }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        self.init(filtersVLANs: try line.flag("vlan-filtering"))
    }

    public var fields: [String: JSON] { filtersVLANs ? ["vlan-filtering": .boolean(true)] : [:] }

    /// IFLA_BR_VLAN_FILTERING (linux/if_link.h).
    public var options: [LinkOption] { [LinkOption(7, .u8(filtersVLANs ? 1 : 0))] }

    /// A kernel without VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING) reports nothing.
    public func isPresent(_ option: LinkOption, reported: [UInt8]?) -> Bool? {
        reported == nil ? !filtersVLANs : nil
    }

    /// As the kernel does for bridges without a set MTU (br_mtu_auto_adjust in net/bridge/br_if.c).
    public var mtuRule: MTURule { .ports }
}
