/// A type of links, such as `bridge`: a file of `Types`. A plan's line names it by a key that has the
/// type's own keys.
public protocol LinkType: Sendable, Hashable {
    /// The key in plans.
    static var name: String { get }

    /// IFLA_INFO_KIND; nil for links that the engine does not make.
    static var kernelKind: String? { get }

    /// Its own keys.
    var fields: [String: JSON] { get }

    /// - Parameter line: the object of its own keys.
    init(_ line: ResourceLine) throws(InvalidResource)

    /// The MTU of a link without a planned one, in bytes; nil to leave it as it is. Without this a
    /// planned MTU would stay after it was removed from the document.
    ///
    /// - Parameter ports: the MTUs of the links that have this one as their master.
    func defaultMTU(ports: [Int]) -> Int?
}

extension LinkType {
    /// ETH_DATA_LEN (linux/if_ether.h).
    public static var ethernetMTU: Int { 1500 }

    public func defaultMTU(ports: [Int]) -> Int? { Self.ethernetMTU }
}

/// All types of links. A type is a file of `Types`, and a name here.
public enum LinkTypes {
    public static let all: [any LinkType.Type] = [PortLink.self, BridgeLink.self]

    static let names = all.map { $0.name }
}

/// A value of any type of links.
public struct AnyLinkType: Sendable, Hashable {
    public let value: any LinkType

    public init(_ value: some LinkType) { self.value = value }

    /// The key in plans.
    public var name: String { type(of: value).name }

    /// IFLA_INFO_KIND.
    public var kernelKind: String? { type(of: value).kernelKind }

    public func `as`<Value: LinkType>(_ type: Value.Type) -> Value? { value as? Value }

    public static func == (left: AnyLinkType, right: AnyLinkType) -> Bool {
        func isEqual<Value: LinkType>(_ value: Value) -> Bool { right.as(Value.self) == value }
        return isEqual(left.value)
    }

    public func hash(into hasher: inout Hasher) { value.hash(into: &hasher) }

    /// Reads the one key of a link's line that names a type.
    init(_ line: ResourceLine) throws(InvalidResource) {
        let types = LinkTypes.all.filter { line[$0.name] != nil }
        guard types.count == 1, let type = types.first, let own = line.nested(type.name) else {
            let found = types.isEmpty ? "none" : types.map { $0.name }.joined(separator: " and ")
            throw line.invalid(
                "a link needs one type, found \(found); types are \(LinkTypes.names.joined(separator: ", "))")
        }
        value = try type.init(own)
    }
}
