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

    /// Links that are made before this one.
    var parents: [String] { get }

    /// The wanted attributes of the type.
    var options: [LinkOption] { get }

    /// Whether the kernel's report of an attribute is as wanted, where it is not the wanted bytes; nil
    /// to compare bytes.
    ///
    /// - Parameter reported: the payload; nil where the kernel reports none.
    func isPresent(_ option: LinkOption, reported: [UInt8]?) -> Bool?

    /// The MTU without a planned one. Without a rule a planned MTU would stay after it was removed from
    /// the document.
    var mtuRule: MTURule { get }

    /// Ports without an MTU of their own have this link's.
    var isMTUOfPorts: Bool { get }
}

/// Where the MTU of a link without a planned one comes from.
public enum MTURule: Sendable, Hashable {
    /// ETH_DATA_LEN (linux/if_ether.h).
    public static let ethernet = 1500

    /// 1500 bytes, within what the driver takes.
    case hardware
    /// Bytes.
    case fixed(Int)
    /// The first parent's.
    case parent
    /// The smallest of the ports', or 1500.
    case ports
    /// It is left as it is.
    case none
}

extension LinkType {
    public var parents: [String] { [] }
    public var options: [LinkOption] { [] }
    public func isPresent(_ option: LinkOption, reported: [UInt8]?) -> Bool? { nil }
    public var mtuRule: MTURule { .fixed(MTURule.ethernet) }
    public var isMTUOfPorts: Bool { false }
}

/// All types of links. A type is a file of `Types`, and a name here.
public enum LinkTypes {
    public static let all: [any LinkType.Type] = [
        PortLink.self, BridgeLink.self, VLANLink.self, BondLink.self, VRFLink.self, DummyLink.self, VethLink.self,
        IFBLink.self, ExternalLink.self,
    ]

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
