/// A link that a service makes, such as a PPP session. It may appear and disappear: addresses, routes
/// and sysctls of it wait for it.
public struct ExternalLink: LinkType {
    public static let name = "external"
    public static let kernelKind: String? = nil

    public init() {}
    public init(_ line: ResourceLine) throws(InvalidResource) {}

    public var fields: [String: JSON] { [:] }

    public var mtuRule: MTURule { .none }
}
