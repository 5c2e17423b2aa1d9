/// A kind of resource: what a plan's lines of one `kind` say. Its value, its driver, its rows of the
/// contract and its cases are in `Sources/Resources/KIND`.
public protocol ResourceType: Sendable, Hashable {
    /// The name in plans and manifests, such as `link`.
    static var kind: String { get }

    /// True where several plugins may plan equal resources, which are then one.
    static var isShared: Bool { get }

    /// The kind of its line: ``kind``, but for custom resources, whose lines say it.
    var lineKind: String { get }

    /// Unique within the kind: two resources with one identity are a conflict.
    var identity: String { get }

    /// The keys of the plan's line beside `kind`, `id` and `at`.
    var fields: [String: JSON] { get }

    /// Appends an entry of ``fields`` as JSON, where that costs less than ``fields``: a kind of
    /// which a plan has tens of thousands. It is the only entry, and its key is behind `at` and
    /// before `id`.
    ///
    /// - Returns: false for a resource that has only ``fields``.
    func writeField(into bytes: inout [UInt8]) -> Bool

    /// Reads a plan's line.
    init(_ line: ResourceLine) throws(InvalidResource)

    /// Why a plugin may not plan this, as names or paths that are not its own; nil where it may.
    func objection(to plugin: String) -> String?

    /// Resources that the same plugin must plan as well.
    var references: [ResourceKey] { get }

    /// Absolute paths of programs that the image must have.
    var programs: [String] { get }

    /// Whether a plan's line may have names or numbers of an allocation.
    static func mayAllocate(_ line: String) -> Bool

    /// The same with numbers in place of names.
    ///
    /// - Parameter share: what the plugin's manifest allocates.
    /// - Throws: for what it does not allocate.
    func allocated(by share: Allocation.Share, of plugin: String) throws(AllocationViolation) -> Self
}

extension ResourceType {
    public static var isShared: Bool { false }
    public var lineKind: String { Self.kind }
    public func writeField(into bytes: inout [UInt8]) -> Bool { false }
    public func objection(to plugin: String) -> String? { nil }
    public var references: [ResourceKey] { [] }
    public var programs: [String] { [] }
    public static func mayAllocate(_ line: String) -> Bool { false }

    public func allocated(by share: Allocation.Share, of plugin: String) throws(AllocationViolation) -> Self { self }

    fileprivate func resource(
        by share: Allocation.Share, of plugin: String
    ) throws(AllocationViolation) -> Resource { Resource(try allocated(by: share, of: plugin)) }

    fileprivate func mayBeAllocated(_ line: String) -> Bool { Self.mayAllocate(line) }

    /// An object of the keys that have a value.
    static func fields(_ entries: KeyValuePairs<String, JSON?>) -> [String: JSON] {
        JSON.object(entries).object ?? [:]
    }

    /// Why a name is not the plugin's own: names that all plugins share begin with the plugin's name
    /// and a dot.
    static func objection(toName name: String, of plugin: String) -> String? {
        name.hasPrefix(plugin + ".") && !name.contains("/") ? nil : "\(name) must be named \(plugin).…"
    }

    /// Why a path is not the plugin's own.
    static func objection(toPath path: String, of plugin: String) -> String? {
        PluginFolders.isOwn(path, of: plugin)
            ? nil : "\(path) is not below \(PluginFolders.of(plugin).joined(separator: " or "))"
    }
}

/// The kind and the identity of a resource.
public struct ResourceKey: Sendable, Hashable, CustomStringConvertible {
    public var kind: String
    public var identity: String

    public init(_ kind: String, _ identity: String) { (self.kind, self.identity) = (kind, identity) }

    public var description: String { "\(kind) \(identity)" }
}

/// All kinds of resources. A kind is a folder of `Sources/Resources`, its name in `Package.swift`, and
/// a name here.
public enum ResourceTypes {
    public static let all: [any ResourceType.Type] = [
        KernelModuleResource.self, SysctlResource.self, NftablesResource.self, LinkResource.self,
        BridgeVLANResource.self, AddressResource.self, RouteResource.self, RuleResource.self, DirectoryResource.self,
        FileResource.self,
        ServiceResource.self, SecretResource.self, ProbeResource.self, SettingResource.self,
    ]

    /// The names of all kinds, in the order above.
    public static let kinds = all.map { $0.kind }

    static let byKind: [String: any ResourceType.Type] = Dictionary(
        uniqueKeysWithValues: all.map { ($0.kind, $0) })
}

/// Something that the box shall have: a value of any kind.
public struct Resource: Sendable, Hashable {
    public let value: any ResourceType

    public init(_ value: some ResourceType) { self.value = value }

    public var kind: String { value.lineKind }
    public var identity: String { value.identity }
    public var key: ResourceKey { ResourceKey(kind, identity) }

    /// The value, where it is of that kind.
    public func `as`<Value: ResourceType>(_ type: Value.Type) -> Value? {
        Swift.type(of: value) == type ? value as? Value : nil
    }

    public static func == (left: Resource, right: Resource) -> Bool {
        func isEqual<Value: ResourceType>(_ value: Value) -> Bool { right.as(Value.self) == value }
        return isEqual(left.value)
    }

    public func hash(into hasher: inout Hasher) { value.hash(into: &hasher) }

    /// The same with numbers of an allocation in place of names.
    ///
    /// - Parameters:
    ///   - share: what the plugin's manifest allocates.
    ///   - line: as the plugin wrote it.
    /// - Throws: for what it does not allocate.
    public func allocated(
        by share: Allocation.Share, of plugin: String, line: String
    ) throws(AllocationViolation) -> Resource {
        value.mayBeAllocated(line) ? try value.resource(by: share, of: plugin) : self
    }

    /// One line of a plan.
    public var json: JSON {
        var entries = value.fields
        entries["kind"] = .text(kind)
        entries["id"] = .text(identity)
        return .object(entries)
    }

    /// The text of a plan's line, without its end.
    ///
    /// - Parameter path: of the node in the plugin's configuration that wants it.
    func line(at path: String?) -> String {
        var bytes = Array("{".utf8)
        if let path {
            bytes += #""at":"#.utf8
            JSON.writeQuoted(path, into: &bytes)
            bytes.append(UInt8(ascii: ","))
        }
        guard value.writeField(into: &bytes) else {
            var entries = json.object ?? [:]
            if let path { entries["at"] = .text(path) }
            return JSON.object(entries).line
        }
        bytes += #","id":"#.utf8
        JSON.writeQuoted(identity, into: &bytes)
        bytes += #","kind":"#.utf8
        JSON.writeQuoted(kind, into: &bytes)
        bytes.append(UInt8(ascii: "}"))
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Reads one line of a plan.
    ///
    /// - Parameter customKinds: kinds that plugins' drivers add; their lines become ``CustomResource``.
    /// - Throws: ``InvalidResource`` with what is invalid in it.
    public init(_ json: JSON, customKinds: Set<String> = []) throws(InvalidResource) {
        let name = json["kind"]?.text ?? ""
        if let type = ResourceTypes.byKind[name] {
            value = try type.init(ResourceLine(json))
        } else if customKinds.contains(name) {
            value = try CustomResource(ResourceLine(json))
        } else {
            let kinds = ResourceTypes.kinds + customKinds.sorted()
            throw InvalidResource("the kind \"\(name)\" is not known; kinds are \(kinds.joined(separator: ", "))", json)
        }
        guard json["id"]?.text == identity else {
            throw InvalidResource("its id is \"\(json["id"]?.text ?? "")\", and must be \"\(identity)\"", json)
        }
    }
}

extension Sequence<Resource> {
    /// The values of one kind, in their order.
    public func of<Value: ResourceType>(_ type: Value.Type) -> [Value] { compactMap { $0.as(type) } }
}

/// A line of a plan that is not a resource.
public struct InvalidResource: Error, Sendable, CustomStringConvertible {
    public var description: String

    init(_ problem: String, _ json: JSON) {
        let text = json.line
        description = "\(problem) in \(text.prefix(300))\(text.count > 300 ? "…" : "")"
    }
}
