/// A port of the hardware.
public struct PortLink: LinkType {
    public static let name = "port"
    public static let kernelKind: String? = nil

    /// The bus address; empty where the driver does not report one.
    public var path: String
    /// Its permanent address.
    public var mac: MACAddress

    public init(path: String, mac: MACAddress) { (self.path, self.mac) = (path, mac) }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        self.init(path: try line.text("path") ?? "", mac: try line.value("mac") { MACAddress($0) })
    }

    public var fields: [String: JSON] { ["path": .text(path), "mac": .text(mac.description)] }

    public var mtuRule: MTURule { .hardware }
}
