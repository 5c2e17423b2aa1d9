/// VLANs that a port of a bridge, or the bridge itself, is a member of (IEEE 802.1Q, clause 8.8). The
/// bridge has `vlan-filtering`; its ports have no membership but the planned ones.
public struct BridgeVLANResource: ResourceType {
    public static let kind = "bridge-vlan"

    /// VLAN identifiers; 0 and 4095 are reserved (IEEE 802.1Q, table 9-2).
    public static let identifiers = 1...4094

    /// The port; or the bridge, for what the box itself sends and receives.
    public var link: String
    public var vlans: ClosedRange<Int>
    /// Frames leave the port without a tag.
    public var isUntagged: Bool
    /// Frames that arrive without a tag belong to this VLAN (PVID).
    public var isDefault: Bool

    public init(_ link: String, _ vlans: ClosedRange<Int>, isUntagged: Bool = false, isDefault: Bool = false) {
        (self.link, self.vlans, self.isUntagged, self.isDefault) = (link, vlans, isUntagged, isDefault)
    }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        link = try line.required("link")
        guard let vlans = try line.range("vlans", Self.identifiers) else { throw line.invalid("\"vlans\" is missing") }
        self.vlans = vlans
        isUntagged = try line.flag("untagged")
        isDefault = try line.flag("default")
        if isDefault, vlans.count > 1 {
            throw line.invalid("a port has one default VLAN: \"vlans\" must have one number twice, as [10, 10]")
        }
    }

    public var identity: String { "\(link) \(vlans.lowerBound)-\(vlans.upperBound)" }

    public var fields: [String: JSON] {
        Self.fields([
            "link": .text(link), "vlans": .list([.integer(vlans.lowerBound), .integer(vlans.upperBound)]),
            "untagged": isUntagged ? true : nil, "default": isDefault ? true : nil,
        ])
    }
}
