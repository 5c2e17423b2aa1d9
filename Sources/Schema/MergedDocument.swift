import Documents

/// One configuration from the documents of several owners. Of two documents the upper one has
/// precedence.
///
/// Mappings merge key by key. Lists that have a key in their YANG module merge item by item, and
/// items that only the lower document has follow those of the upper one. Any other value of the
/// upper document replaces that of the lower one.
public struct MergedDocument: Sendable {
    /// The effective document. Every value has the position where its owner wrote it.
    public let node: Node
    /// What lower documents set at locked paths. It has no effect.
    public let refused: [Problem]
    /// What lower documents set to another value than an upper one. It has no effect.
    public let overridden: [Problem]
    /// The errors of the documents, such as a locked path that matches nothing. It has no
    /// effect.
    public let problems: [Problem]

    /// The key at the top of a document that locks paths for the documents below it.
    public static let locksKey = "locks"

    /// - Parameters:
    ///   - first: the uppermost document.
    ///   - below: the others in their order.
    ///   - keys: that the image's plugins read at the top of a document.
    ///   - reserved: paths that only the first document may set, each with the reason.
    ///   - schema: of the plugins; read only where it is needed.
    public init(
        _ first: Node, below: [Node] = [], keys: [String], reserved: [String: String] = [:], schema: () -> Schema
    ) {
        if below.isEmpty, first[Self.locksKey] == nil {
            (node, refused, overridden, problems) = (first, [], [], [])
            return
        }
        let problems = ProblemList()
        let schema = schema()
        let root = schema.root
        var merging = Merging()
        var locks = Locks()
        for (path, reason) in reserved {
            if let path = try? DocumentPath(path) { locks.add(root.canonical(path).steps[...], origin: reason) }
        }
        var result = first.without(Self.locksKey)
        locks.add(from: first, keys: keys, root, problems)
        for (index, document) in below.enumerated() {
            if case .mapping = document.value {
                let own = document.without(Self.locksKey)
                result = merging.merge(result, own, "", own.position, locks, root) ?? result
            } else if !document.isNull {
                problems.add(document, "", "found \(document.summary)", hint: "allowed is a mapping")
            }
            if index < below.count - 1 {
                locks.add(from: document, keys: keys, root, problems)
            } else if let entry = document[Self.locksKey] {
                problems.add(
                    Problem(
                        position: entry.keyPosition, path: Self.locksKey,
                        message: "the document has none below it to lock paths for",
                        hint: "remove the key; only a document above another may have it"))
            }
        }
        (node, refused, overridden) = (result, merging.refused, merging.overridden)
        self.problems = problems.problems
    }
}

/// Locked paths as a tree.
private struct Locks {
    /// Where the path that ends here was locked; nil for one that leads to others only.
    private(set) var origin: String?
    private var below: [DocumentPath.Step: Locks] = [:]

    subscript(step: DocumentPath.Step) -> Locks? { below[step] }

    mutating func add(_ steps: ArraySlice<DocumentPath.Step>, origin: String) {
        guard let step = steps.first else {
            self.origin = self.origin ?? origin
            return
        }
        below[step, default: Locks()].add(steps.dropFirst(), origin: origin)
    }

    /// Adds those that a document asks for.
    mutating func add(from document: Node, keys: [String], _ root: Schema.Node, _ problems: ProblemList) {
        guard let entry = document[MergedDocument.locksKey] else { return }
        let texts = Shape<[Located<String>]>.list(of: Shape<String>.text.located).read(
            entry.value, path: MergedDocument.locksKey, into: problems)
        for text in texts ?? [] {
            do {
                let path = try DocumentPath(text.value)
                if let (message, hint) = root.objection(toLocking: path, keys) {
                    problems.add(text.problem("\"\(path)\": \(message)", hint: hint))
                }
                add(root.canonical(path).steps[...], origin: "\(text.position)")
            } catch {
                problems.add(text.problem("\(error)", hint: "allowed is a path such as firewall.policies"))
            }
        }
    }
}

private struct Merging {
    var refused: [Problem] = []
    var overridden: [Problem] = []

    /// - Parameters:
    ///   - given: the value of the upper document; nil where it has none.
    ///   - place: where the lower document begins to set this one.
    /// - Returns: nil where there is none.
    mutating func merge(
        _ given: Node?, _ lower: Node, _ path: String, _ place: SourcePosition, _ locks: Locks?, _ schema: Schema.Node?
    ) -> Node? {
        if let origin = locks?.origin {
            refused.append(
                Problem(
                    position: place, path: path, message: "the path is locked (\(origin))",
                    hint: "remove it; the owner of the upper document may change it or the lock"))
            return given
        }
        let upper = given?.isNull == true ? nil : given
        switch (upper?.value, lower.value) {
        case (nil, .mapping(let entries)):
            return mapping([], entries, path, lower, locks, schema) ?? given
        case (.mapping(let above)?, .mapping(let entries)):
            return mapping(above, entries, path, upper ?? lower, locks, schema)
        case (nil, .sequence(let items)) where schema?.isKeyed == true:
            return list([], items, path, lower, locks, schema) ?? given
        case (.sequence(let above)?, .sequence(let items)) where schema?.isKeyed == true:
            return list(above, items, path, upper ?? lower, locks, schema)
        default: break
        }
        guard let upper else { return lower }
        if !lower.isNull, lower.canonical != upper.canonical {
            overridden.append(
                Problem(
                    position: place, path: path, message: "has no effect: \(upper.position) sets it",
                    hint: "remove it; the upper document has precedence"))
        }
        return upper
    }

    private mutating func mapping(
        _ above: [Node.Entry], _ entries: [Node.Entry], _ path: String, _ whole: Node, _ locks: Locks?,
        _ schema: Schema.Node?
    ) -> Node? {
        var result = above
        for entry in entries {
            let index = above.firstIndex { $0.key == entry.key }
            let merged = merge(
                index.map { above[$0].value }, entry.value, path.isEmpty ? entry.key : "\(path).\(entry.key)",
                entry.keyPosition, locks?[.key(entry.key)], schema?.children.first { $0.name == entry.key })
            guard let merged else { continue }
            if let index {
                result[index].value = merged
            } else {
                result.append(.init(key: entry.key, keyPosition: entry.keyPosition, value: merged))
            }
        }
        // The merge drops a node that only locks have emptied.
        return result.isEmpty && !entries.isEmpty ? nil : Node(value: .mapping(result), position: whole.position)
    }

    private mutating func list(
        _ above: [Node], _ items: [Node], _ path: String, _ whole: Node, _ locks: Locks?, _ schema: Schema.Node?
    ) -> Node? {
        var result = above
        let known = Dictionary(above.enumerated().compactMap { i, item in schema?.key(of: item).map { ($0, i) } }) {
            first, _ in first
        }
        var seen: Set<String> = []
        for (number, item) in items.enumerated() {
            guard let key = schema?.key(of: item) else {
                // The plugin refuses it where the key is needed.
                result.append(item)
                continue
            }
            let isSecond = !seen.insert(key).inserted
            if isSecond, known[key] != nil {
                refused.append(
                    Problem(
                        position: item.position, path: "\(path)[\(number)]",
                        message: "the item \(key) stands twice in the document", hint: "remove one of them"))
                continue
            }
            let upper = known[key].map { above[$0] }
            // The keys of the two are the same values, whatever their spelling.
            let own = upper == nil ? item : schema?.keys.reduce(item) { $0.without($1) } ?? item
            let merged = merge(
                upper, own, "\(path)[\(key)]", item.position, locks?[Schema.Node.step(key)], schema)
            guard let merged else { continue }
            if let index = known[key] { result[index] = merged } else { result.append(merged) }
        }
        return result.isEmpty && !items.isEmpty ? nil : Node(value: .sequence(result), position: whole.position)
    }
}
