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
        name = try line.value("name") { Self.isName($0) ? $0 : nil }
        type = try AnyLinkType(line)
        master = try line.text("master")
        mtu = try line.number("mtu", 68...65_535)
        if type.as(VethLink.self)?.peer == name { throw line.invalid("a veth can't be its own peer") }
    }

    /// IFNAMSIZ (linux/if.h) leaves 15 bytes. Names that begin with `vcpe.` are the engine's own.
    private static func isName(_ name: String) -> Bool {
        (1...15).contains(name.utf8.count) && !name.hasPrefix("vcpe.") && name != "." && name != ".."
            && name.utf8.allSatisfy { byte in
                (0x61...0x7A).contains(byte) || (0x41...0x5A).contains(byte) || (0x30...0x39).contains(byte)
                    || [0x2D, 0x2E, 0x5F].contains(byte)
            }
    }

    public var references: [ResourceKey] {
        type.as(VethLink.self).map { [ResourceKey(Self.kind, $0.peer)] } ?? []
    }

    public var identity: String { name }

    /// Whether a service makes it.
    public var isExternal: Bool { type.as(ExternalLink.self) != nil }

    public var fields: [String: JSON] {
        Self.fields([
            "name": .text(name), "master": master.map { .text($0) }, "mtu": mtu.map { .integer($0) },
        ]).merging([type.name: .object(type.value.fields)]) { $1 }
    }

    public static func mayAllocate(_ line: String) -> Bool { true }

    public func allocated(by share: Allocation.Share, of plugin: String) throws(AllocationViolation) -> LinkResource {
        guard let vrf = type.as(VRFLink.self) else { return self }
        var link = self
        link.type = AnyLinkType(VRFLink(table: try vrf.table.resolved("tables", share.tables, of: plugin)))
        return link
    }
}
