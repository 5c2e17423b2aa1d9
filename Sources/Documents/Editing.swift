/// Where a value stands in a document, as errors and operators write it: `firewall.rules[2].action`, or, a list's item by
/// its name, `firewall.rules[web].action`.
public struct DocumentPath: Sendable, Hashable, CustomStringConvertible {
    public enum Step: Sendable, Hashable {
        case key(String)
        case index(Int)
        /// The item of a list whose ``Node/itemName`` is that.
        case name(String)
    }

    public var steps: [Step]

    /// - Throws: ``InvalidEdit`` for a text that is no path.
    public init(_ text: String) throws(InvalidEdit) {
        steps = []
        var rest = text[...]
        while !rest.isEmpty {
            if rest.first == "[" {
                guard let end = rest.firstIndex(of: "]"), end > rest.index(after: rest.startIndex) else {
                    throw InvalidEdit("\"\(text)\" is no path: a [ without what belongs to it")
                }
                let name = String(rest[rest.index(after: rest.startIndex)..<end])
                steps.append(Int(name).map { .index($0) } ?? .name(name))
                rest = rest[rest.index(after: end)...]
                if rest.first == "." { rest = rest.dropFirst() }
                continue
            }
            let key = rest.prefix { $0 != "." && $0 != "[" }
            guard !key.isEmpty else { throw InvalidEdit("\"\(text)\" is no path: a key is missing in it") }
            steps.append(.key(String(key)))
            rest = rest[key.endIndex...]
            if rest.first == "." {
                rest = rest.dropFirst()
                guard !rest.isEmpty else { throw InvalidEdit("\"\(text)\" is no path: it ends with a dot") }
            }
        }
    }

    public init(steps: [Step]) { self.steps = steps }

    public var description: String {
        steps.reduce("") { text, step in
            switch step {
            case .key(let key): text.isEmpty ? key : "\(text).\(key)"
            case .index(let index): "\(text)[\(index)]"
            case .name(let name): "\(text)[\(name)]"
            }
        }
    }
}

/// A change to a document that can't be made.
public struct InvalidEdit: Error, Sendable, CustomStringConvertible {
    public var description: String

    init(_ description: String) { self.description = description }
}

extension Node {
    /// By what people tell the items of a list apart: its `name`, or its first value.
    public var itemName: String? {
        if case .scalar(let scalar) = value { return scalar.text }
        guard case .mapping(let entries) = value,
            let entry = entries.first(where: { $0.key == "name" }) ?? entries.first,
            case .scalar(let scalar) = entry.value.value
        else { return nil }
        return scalar.text
    }

    /// The value at a path; nil when nothing stands there.
    public func value(at path: DocumentPath) -> Node? {
        let (node, isThere) = nearest(to: path.steps)
        return isThere ? node : nil
    }

    /// The node at a path such as `rules[2].to`; the nearest one above it when the path leads nowhere.
    public func node(at path: String) -> Node { nearest(to: (try? DocumentPath(path))?.steps ?? []).node }

    /// As far as the steps lead, and whether that is all the way.
    private func nearest(to steps: [DocumentPath.Step]) -> (node: Node, isThere: Bool) {
        var node = self
        for step in steps {
            guard let next = node.child(step) else { return (node, false) }
            node = next
        }
        return (node, true)
    }

    private func child(_ step: DocumentPath.Step) -> Node? {
        switch (step, value) {
        case (.key(let key), _): return self[key]?.value
        case (.index(let index), .sequence(let items)): return items.indices.contains(index) ? items[index] : nil
        case (.name(let name), .sequence(let items)): return items.first { $0.itemName == name }
        default: return nil
        }
    }

    /// The document with `new` at a path. Mappings on the way are made; of a list, an item by name or one behind the last is
    /// added.
    public func setting(_ new: Node, at path: DocumentPath) throws(InvalidEdit) -> Node {
        try changed(path.steps[...], path) { (_) throws(InvalidEdit) in new }
    }

    /// The document without what stands at a path, and without the lists and mappings that are empty by it. A list of plain
    /// values stays, empty: of such a one nothing often means everything, which is for its reader to refuse.
    public func removing(at path: DocumentPath) throws(InvalidEdit) -> Node {
        guard let last = path.steps.last else { return Node(value: .mapping([]), position: position) }
        guard let gone = value(at: path) else { throw InvalidEdit("\(path): nothing stands there") }
        let above = DocumentPath(steps: Array(path.steps.dropLast()))
        let emptied = try changed(above.steps[...], path) { (node) throws(InvalidEdit) in
            guard let node else { throw InvalidEdit("\(path): nothing stands there") }
            return node.without(last)
        }
        guard !above.steps.isEmpty, let rest = emptied.value(at: above), rest.isEmpty else { return emptied }
        if case .scalar = gone.value, case .sequence = rest.value { return emptied }
        return try emptied.removing(at: above)
    }

    /// The document with one more item in the list at a path, before the one that stands at `index`.
    public func inserting(_ new: Node, at index: Int, of path: DocumentPath) throws(InvalidEdit) -> Node {
        try changed(path.steps[...], path) { (node) throws(InvalidEdit) in
            var items: [Node] = []
            switch node?.value {
            case .sequence(let present)?: items = present
            case nil: break
            default: throw InvalidEdit("\(path): \(node?.summary ?? ""), and no list")
            }
            guard (0...items.count).contains(index) else {
                throw InvalidEdit("\(path)[\(index)]: the list has \(items.count) items")
            }
            items.insert(new, at: index)
            return Node(value: .sequence(items), position: node?.position ?? position)
        }
    }

    private var isEmpty: Bool {
        switch value {
        case .scalar: false
        case .sequence(let items): items.isEmpty
        case .mapping(let entries): entries.isEmpty
        }
    }

    private func without(_ step: DocumentPath.Step) -> Node {
        switch (step, value) {
        case (.key(let key), _): return without(key)
        case (.index(let index), .sequence(var items)):
            if items.indices.contains(index) { items.remove(at: index) }
            return Node(value: .sequence(items), position: position)
        case (.name(let name), .sequence(var items)):
            if let index = items.firstIndex(where: { $0.itemName == name }) { items.remove(at: index) }
            return Node(value: .sequence(items), position: position)
        default: return self
        }
    }

    private func changed(
        _ steps: ArraySlice<DocumentPath.Step>, _ path: DocumentPath, _ change: (Node?) throws(InvalidEdit) -> Node
    ) throws(InvalidEdit) -> Node {
        guard let step = steps.first else { return try change(self) }
        let rest = steps.dropFirst()
        func below(_ node: Node?) throws(InvalidEdit) -> Node {
            if let node { return try node.changed(rest, path, change) }
            if rest.isEmpty { return try change(nil) }
            // What stands nowhere yet begins as what the next step wants.
            let isKey = if case .key? = rest.first { true } else { false }
            return try Node(value: isKey ? .mapping([]) : .sequence([]), position: position).changed(rest, path, change)
        }
        switch (step, value) {
        case (.key(let key), .mapping(var entries)):
            if let i = entries.firstIndex(where: { $0.key == key }) {
                entries[i].value = try below(entries[i].value)
            } else {
                entries.append(.init(key: key, keyPosition: position, value: try below(nil)))
            }
            return Node(value: .mapping(entries), position: position)
        case (.key, .scalar) where isNull:
            return try Node(value: .mapping([]), position: position).changed(steps, path, change)
        case (.index(let index), .sequence(var items)):
            guard (0...items.count).contains(index) else {
                throw InvalidEdit("\(path): the list has \(items.count) items, counted from 0")
            }
            if index < items.count { items[index] = try below(items[index]) } else { items.append(try below(nil)) }
            return Node(value: .sequence(items), position: position)
        case (.name(let name), .sequence(var items)):
            if let i = items.firstIndex(where: { $0.itemName == name }) {
                items[i] = try below(items[i])
            } else if rest.isEmpty {
                items.append(try below(nil))
            } else {
                let named = Node(value: .scalar(.init(text: name, isPlain: true)), position: position)
                let item = Node(
                    value: .mapping([.init(key: "name", keyPosition: position, value: named)]), position: position)
                items.append(try item.changed(rest, path, change))
            }
            return Node(value: .sequence(items), position: position)
        default: throw InvalidEdit("\(path): there is \(summary) on the way, which has no such part")
        }
    }
}
