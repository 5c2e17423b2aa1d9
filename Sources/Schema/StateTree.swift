import Documents

/// Operational state as plain data in the shape of the plugins' YANG modules, and what a request
/// selects of it.
public struct StateTree: Sendable {
    public let schema: Schema
    /// By the plugins' keys.
    public private(set) var data: JSON

    /// - Parameter data: a configuration that it begins with.
    public init(schema: Schema, data: JSON = [:]) { (self.schema, self.data) = (schema, data) }

    /// The list at a path of keys, where a module has one for state with one key.
    public func list(at path: [String]) -> Schema.Node? {
        var nodes = schema.top.map(\.node)
        var found: Schema.Node?
        for key in path {
            if found?.kind == .list { return nil }
            found = nodes.first { $0.name == key }
            nodes = found?.children ?? []
        }
        return found.flatMap { $0.kind == .list && !$0.isConfiguration && $0.keys.count == 1 ? $0 : nil }
    }

    /// Fills a list with objects by name. Of an object, what the module has no node for is left
    /// out.
    public mutating func fill(_ path: [String], with objects: [String: JSON]) {
        guard let list = list(at: path), let key = list.keys.first, !objects.isEmpty else { return }
        let items = objects.sorted { $0.key < $1.key }.map { name, object -> JSON in
            var entries = Self.fitting(object, list).object ?? [:]
            entries[key] = .text(name)
            return .object(entries)
        }
        data = Self.setting(.list(items), path[...], in: data)
    }

    private static func setting(_ value: JSON, _ path: ArraySlice<String>, in data: JSON) -> JSON {
        guard let key = path.first else { return value }
        var entries = data.object ?? [:]
        entries[key] = setting(value, path.dropFirst(), in: entries[key] ?? [:])
        return .object(entries)
    }

    /// What of an object of a list or a container the module has nodes for.
    private static func fitting(_ object: JSON, _ node: Schema.Node) -> JSON {
        let entries = object.object ?? [:]
        return .object(
            Dictionary(
                node.children.compactMap { child -> (String, JSON)? in
                    guard let value = entries[child.name] else { return nil }
                    switch (child.kind, value) {
                    case (.leaf, .text), (.leaf, .integer), (.leaf, .boolean): return (child.name, value)
                    case (.leafList, .list(let items)):
                        return (child.name, .list(items.filter { $0.object == nil && $0.list == nil && $0 != .null }))
                    case (.container, .object): return (child.name, fitting(value, child))
                    case (.list, .list(let items)):
                        return (child.name, .list(items.filter { $0.object != nil }.map { fitting($0, child) }))
                    default: return nil
                    }
                }
            ) { $1 })
    }

    // MARK: - Selection

    /// The node at a path with all below it, within its ancestors.
    ///
    /// - Parameter depth: levels from the path on, which is the first; nil for all. Containers below
    ///   are empty, and items of lists have their keys alone.
    public func selection(at path: DocumentPath, depth: Int?) -> JSON {
        let root = Schema.Node(name: "", kind: .container, values: [], type: "", children: schema.top.map(\.node))
        // The top level has no node of its own.
        let depth = path.steps.isEmpty ? depth.map { $0 + 1 } : depth
        return Self.select(data, path.steps[...], root, depth) ?? [:]
    }

    private static func select(
        _ value: JSON, _ steps: ArraySlice<DocumentPath.Step>, _ node: Schema.Node?, _ depth: Int?
    ) -> JSON? {
        guard let step = steps.first else { return cut(value, node, depth) }
        switch (step, value) {
        case (.key(let key), .object(let entries)):
            guard let inner = entries[key],
                let found = select(inner, steps.dropFirst(), node?.children.first { $0.name == key }, depth)
            else { return nil }
            return .object([key: found])
        case (_, .list(let items)):
            var rest = steps
            var wanted = items
            if case .key = step {
            } else {
                rest = steps.dropFirst()
                wanted = items.filter { has($0, step, node) }
                if wanted.isEmpty, case .index(let index) = step, items.indices.contains(index) {
                    wanted = [items[index]]
                }
            }
            let found = wanted.compactMap { item -> JSON? in
                guard let part = select(item, rest, node, depth) else { return nil }
                return .object((part.object ?? [:]).merging(keys(of: item, node)) { part, _ in part })
            }
            return found.isEmpty ? nil : .list(found)
        default: return nil
        }
    }

    private static func has(_ item: JSON, _ step: DocumentPath.Step, _ node: Schema.Node?) -> Bool {
        let names = node?.keys.isEmpty == false ? node?.keys ?? [] : ["name"]
        let values = names.compactMap { item[$0] }.map { $0.text ?? $0.line }.joined(separator: " ")
        switch step {
        case .name(let name): return values == name
        case .index(let index): return values == String(index)
        case .key: return false
        }
    }

    private static func keys(of item: JSON, _ node: Schema.Node?) -> [String: JSON] {
        (item.object ?? [:]).filter { node?.keys.contains($0.key) == true }
    }

    private static func cut(_ value: JSON, _ node: Schema.Node?, _ depth: Int?) -> JSON {
        guard let depth else { return value }
        switch value {
        case .object(let entries):
            if depth <= 1 { return [:] }
            return .object(
                Dictionary(
                    entries.map { key, value in
                        (key, cut(value, node?.children.first { $0.name == key }, depth - 1))
                    }
                ) { $1 })
        case .list(let items):
            return .list(
                items.map { item in
                    guard item.object != nil else { return item }
                    return .object(
                        (cut(item, node, depth).object ?? [:]).merging(keys(of: item, node)) { cut, _ in cut })
                })
        default: return value
        }
    }
}
