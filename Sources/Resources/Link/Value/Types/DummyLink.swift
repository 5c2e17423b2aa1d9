/// A link without a cable, for addresses that no cable may take away.
public struct DummyLink: LinkType {
    public static let name = "dummy"
    public static let kernelKind: String? = "dummy"

    public init() {}
    public init(_ line: ResourceLine) throws(InvalidResource) {}

    public var fields: [String: JSON] { [:] }
}
