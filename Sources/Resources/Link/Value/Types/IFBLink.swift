/// An intermediate functional block: incoming packets of another link queue there (tc-mirred(8)).
public struct IFBLink: LinkType {
    public static let name = "ifb"
    public static let kernelKind: String? = "ifb"

    public init() {}
    public init(_ line: ResourceLine) throws(InvalidResource) {}

    public var fields: [String: JSON] { [:] }
}
