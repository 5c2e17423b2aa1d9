/// A VRF: its ports have a routing table of their own (Documentation/networking/vrf.rst).
public struct VRFLink: LinkType {
    public static let name = "vrf"
    public static let kernelKind: String? = "vrf"

    public var table: AllocatedNumber

    public init(table: AllocatedNumber) { self.table = table }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        guard let table = try line.allocated("table", Allocation.tableNumbers) else {
            throw line.invalid("the number \"table\" is missing")
        }
        self.init(table: table)
    }

    public var fields: [String: JSON] { ["table": table.json] }

    /// IFLA_VRF_TABLE (linux/if_link.h).
    public var options: [LinkOption] { [LinkOption(1, .u32(UInt32(clamping: table.number)), isFixed: true)] }

    /// IP6_MAX_MTU, as vrf_setup of drivers/net/vrf.c sets it.
    public var mtuRule: MTURule { .fixed(65_575) }
}
