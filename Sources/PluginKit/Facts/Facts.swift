/// The state of the box that plugins plan by, beside its configuration: objects in collections, each
/// with a name of its own (docs/plugins.md).
///
/// The engine fills some collections itself. Others are filled by services, with `vcpe-report`; a
/// plugin's manifest says which of its services may fill which.
public struct Facts: Sendable, Hashable {
    /// The objects by collection and name.
    public var collections: [String: [String: JSON]]

    public init(_ collections: [String: [String: JSON]] = [:]) {
        self.collections = collections.filter { !$0.value.isEmpty }
    }

    public var json: JSON { .object(collections.mapValues { .object($0) }) }

    /// The objects of a known type, by name. An object that the type can't read is left out: the
    /// engine refuses such a report, so only an input that no engine wrote has one.
    public func values<Value: FactType>(_ type: Value.Type) -> [String: Value] {
        (collections[Value.collection] ?? [:]).compactMapValues { Value.read($0) }
    }

    /// Adds objects of a known type, or replaces those of the same names.
    public mutating func set<Value: FactType>(_ values: [String: Value]) {
        if values.isEmpty { return }
        collections[Value.collection, default: [:]].merge(values.mapValues(\.json)) { $1 }
    }

    /// Only the collections of a manifest: a plugin gets no others, and their changes do not
    /// concern it.
    public func only(_ wanted: [String]) -> Facts {
        Facts(collections.filter { wanted.contains($0.key) })
    }

    public static var shape: Shape<Facts> {
        Shape("facts: objects by collection and name") { node, path, problems in
            guard case .object(let collections) = JSON(node) else {
                problems.add(node, path, "found \(node.summary)", hint: "allowed is a mapping of collections")
                return nil
            }
            var facts = Facts()
            for (name, value) in collections {
                guard let objects = value.object else {
                    problems.add(node, path.isEmpty ? name : "\(path).\(name)", "the collection is no mapping of names")
                    continue
                }
                if !objects.isEmpty { facts.collections[name] = objects }
            }
            return facts
        }
    }
}

/// A type of facts: what the objects of one collection look like.
public protocol FactType: Sendable, Hashable {
    /// The collection's name in manifests and inputs.
    static var collection: String { get }
    static var shape: Shape<Self> { get }
    var json: JSON { get }
}

extension FactType {
    /// Reads an object; nil when it has another shape.
    static func read(_ json: JSON) -> Self? { try? Self.checked(json) }

    /// Reads an object.
    ///
    /// - Throws: ``InvalidDocument`` with each problem.
    static func checked(_ json: JSON) throws(InvalidDocument) -> Self {
        let problems = ProblemList()
        let node = Node(json, position: SourcePosition(file: Self.collection, line: 1, column: 1))
        let value = shape.read(node, path: "", into: problems)
        try problems.throwIfAny()
        guard let value else { throw InvalidDocument([]) }
        return value
    }
}

/// The collections that every box knows.
public enum FactCollections {
    /// Those that the engine fills.
    public static let ofEngine = [
        "ports", "consoles", "unique-local", "links", "addresses", "routes", "probes", "services",
    ]

    /// Those that services fill, with the type that a report must have.
    static let reported: [any FactType.Type] = [
        Facts.Lease.self, Facts.Prefix.self, Facts.Router.self, Facts.Tunnel.self,
    ]

    /// Why a report is refused; nil for a good one. The objects of a plugin's own collection may be
    /// anything.
    public static func objection(to value: JSON, in collection: String) -> String? {
        guard let type = reported.first(where: { $0.collection == collection }) else { return nil }
        do {
            _ = try type.checked(value)
            return nil
        } catch {
            return "\(error)"
        }
    }

    /// Whether a plugin's services may fill a collection: one that all boxes know, or one of its own,
    /// which is named `PLUGIN` or `PLUGIN-…`.
    public static func mayReport(_ plugin: String, into collection: String) -> Bool {
        // A plugin may be called as a collection of the engine.
        if ofEngine.contains(collection) { return false }
        return reported.contains { $0.collection == collection } || collection == plugin
            || collection.hasPrefix(plugin + "-")
    }
}
