extension PluginManifest {
    /// A list of the plugin's YANG module that is filled with the objects of a collection: a part
    /// of the box's operational state.
    public struct StateList: Sendable, Hashable {
        /// Its path in the plugin's container. The list has `config false` and one key, which is an
        /// object's name.
        public var path: String
        /// A collection of facts, or one that the engine has for the state alone.
        public var collection: String
        /// The names of its objects, of which the last character may be a `*`; nil for all.
        public var names: [String]?

        public init(_ path: String, of collection: String, names: [String]? = nil) {
            (self.path, self.collection, self.names) = (path, collection, names)
        }

        /// Whether an object belongs to the list.
        public func has(_ name: String) -> Bool {
            guard let names else { return true }
            return names.contains { $0.hasSuffix("*") ? name.hasPrefix(String($0.dropLast())) : name == $0 }
        }

        var json: JSON {
            .object([
                "list": .text(path), "collection": .text(collection), "names": names.map { .texts($0) },
            ])
        }

        static var shape: Shape<StateList> {
            .mapping("a list of the operational state") { fields in
                let path = fields.required(
                    "list",
                    .text("the path of a list in the plugin's container, such as state.leases") { text in
                        guard let path = try? DocumentPath(text), !path.steps.isEmpty else { return false }
                        return path.steps.allSatisfy { if case .key = $0 { true } else { false } }
                    })
                let collection = fields.required("collection", .name)
                let names = fields.optional("names", .list(of: .text))
                guard let path, let collection else { return nil }
                return StateList(path, of: collection, names: names)
            }
        }
    }
}
