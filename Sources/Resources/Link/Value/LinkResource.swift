/// A network link.
public struct LinkResource: ResourceType {
    public static let kind = "link"

    /// The name that the link has from then on.
    public var name: String
    public var type: AnyLinkType
    /// The bridge, bond or VRF that it is a port of.
    public var master: String?
    /// Bytes; nil for the default of the link's type.
    public var mtu: Int?

    public init(name: String, _ type: some LinkType, master: String? = nil, mtu: Int? = nil) {
        self.name = name
        self.type = AnyLinkType(type)
        self.master = master
        self.mtu = mtu
    }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        name = try line.required("name")
        type = try AnyLinkType(line)
        master = try line.text("master")
        mtu = try line.number("mtu", 68...65_536)
    }

    public var identity: String { name }

    public var fields: [String: JSON] {
        Self.fields([
            "name": .text(name), "master": master.map { .text($0) }, "mtu": mtu.map { .integer($0) },
        ]).merging([type.name: .object(type.value.fields)]) { $1 }
    }
}
