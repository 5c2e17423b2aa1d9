/// A bridge.
public struct BridgeLink: LinkType {
    public static let name = "bridge"
    public static let kernelKind: String? = "bridge"

    public init() {}
    public init(_ line: ResourceLine) throws(InvalidResource) {}

    public var fields: [String: JSON] { [:] }

    /// As the kernel does for bridges whose MTU nobody set (br_mtu_auto_adjust in net/bridge/br_if.c).
    public func defaultMTU(ports: [Int]) -> Int? { ports.min() ?? Self.ethernetMTU }
}
