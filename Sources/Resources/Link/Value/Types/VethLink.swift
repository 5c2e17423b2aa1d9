/// One end of a virtual cable; the plan has a link for the other end, too.
public struct VethLink: LinkType {
    public static let name = "veth"
    public static let kernelKind: String? = "veth"

    /// The name of the other end.
    public var peer: String

    public init(peer: String) { self.peer = peer }

    public init(_ line: ResourceLine) throws(InvalidResource) { self.init(peer: try line.required("peer")) }

    public var fields: [String: JSON] { ["peer": .text(peer)] }

    /// IFLA_IFNAME of the other end.
    private static let nameAttribute = 3

    /// VETH_INFO_PEER (linux/veth.h): a `struct ifinfomsg` of 16 bytes, and the attributes of the peer.
    public func creationOptions(peerName: String) -> [LinkOption] {
        let text = Array(peerName.utf8) + [0]
        let length = UInt16(4 + text.count)
        let head = [length, UInt16(Self.nameAttribute)].withUnsafeBytes { Array($0) }
        let padding = [UInt8](repeating: 0, count: -text.count & 3)
        return [LinkOption(1, .bytes([UInt8](repeating: 0, count: 16) + head + text + padding))]
    }
}
