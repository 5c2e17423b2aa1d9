import Documents
import PluginKit
import Schema

/// The edits of a plugin's command in the document of one owner. The plugin knows the merged
/// document alone: its paths count items of merged lists.
struct PluginEdits {
    /// The merged document.
    let site: Node
    /// Whose document is edited; nil where it is the only one.
    let owner: SiteDocument?
    private(set) var document: Node
    private(set) var isChanged = false
    /// Of items that are inserted at another place of the merged list than the command asks for.
    private(set) var warnings: [String] = []

    private let readSchema: () -> Schema
    private lazy var schema = readSchema()

    /// - Parameter schema: of the plugins; read only where it is needed.
    init(of document: Node, site: Node, owner: SiteDocument?, schema: @escaping () -> Schema) {
        (self.document, self.site, self.owner, readSchema) = (document, site, owner, schema)
    }

    mutating func set(_ value: Node, at path: DocumentPath) throws {
        let place = try own(path, adding: true)
        document = try document.setting(value, at: place)
        isChanged = true
    }

    mutating func remove(at path: DocumentPath) throws {
        let place = try own(path)
        if let owner, document.value(at: place) == nil, let other = site.value(at: path) {
            throw EngineError("\(path): the document \(owner.rawValue) does not set it; \(other.position) does")
        }
        document = try document.removing(at: place)
        isChanged = true
    }

    mutating func insert(_ value: Node, at index: Int, of path: DocumentPath) throws {
        let place = try own(path, adding: true)
        var index = index
        if owner != nil, case .sequence(let all)? = site.value(at: path)?.value {
            let list = list(at: path)
            var names: Set<String> = []
            if case .sequence(let items)? = document.value(at: place)?.value {
                names = Set(items.map { Self.name(of: $0, list) })
            }
            warn(of: all.dropFirst(index), before: Self.name(of: value, list), at: path)
            index = all.prefix(index).count { names.contains(Self.name(of: $0, list)) }
        }
        document = try document.inserting(value, at: index, of: place)
        isChanged = true
    }

    /// Warns of an item that items of the upper document precede, although the command puts it
    /// before them: it may have no effect.
    private mutating func warn(of items: ArraySlice<Node>, before name: String, at path: DocumentPath) {
        let uppers = items.filter { $0.position.file != owner?.rawValue }
        guard owner != SiteDocument.allCases.first, let first = uppers.first, let last = uppers.last else { return }
        let lines = uppers.count == 1 ? "\(first.position)" : "\(first.position) to \(last.position)"
        warnings.append(
            "warning: \(path)[\(name)]: it is placed after \(uppers.count) "
                + "\(uppers.count == 1 ? "item" : "items") of another document (\(lines)), which take precedence; "
                + "only the owner of that document can put it before them")
    }

    /// The list of the plugins' modules at a path; nil where they have none with a key.
    private mutating func list(at path: DocumentPath) -> Schema.Node? {
        var node: Schema.Node? = schema.root
        for case .key(let key) in path.steps { node = node?.children.first { $0.name == key } }
        return node?.isKeyed == true ? node : nil
    }

    /// What tells an item of a list from others.
    private static func name(of item: Node, _ list: Schema.Node?) -> String {
        if let list, let key = list.key(of: item) { return key }
        return item.itemName ?? item.canonical
    }

    /// A path of the merged document as one of the owner's: items of lists that both have are told
    /// by the values of their keys.
    ///
    /// - Parameter adding: adds items on the way that only the other documents have, with their
    ///   keys.
    private mutating func own(_ path: DocumentPath, adding: Bool = false) throws -> DocumentPath {
        if owner == nil { return path }
        var (steps, above): ([DocumentPath.Step], [DocumentPath.Step]) = ([], [])
        for step in path.steps {
            let whole = site.value(at: DocumentPath(steps: above))
            let own = document.value(at: DocumentPath(steps: steps))
            defer { above.append(step) }
            guard case .sequence(let items)? = whole?.value, own?.canonical != whole?.canonical,
                let item = Self.item(at: step, of: items)
            else {
                steps.append(step)
                continue
            }
            guard let list = list(at: DocumentPath(steps: above)), let key = list.key(of: item)
            else {
                steps.append(item.itemName.map { .name($0) } ?? step)
                continue
            }
            var present: [Node] = []
            if case .sequence(let items)? = own?.value { present = items }
            let index = present.firstIndex { list.key(of: $0) == key }
            steps.append(.index(index ?? present.count))
            if index == nil, adding, case .mapping(let entries) = item.value {
                let keys = entries.filter { list.keys.contains($0.key) }
                let new = Node(value: .mapping(keys), position: item.position)
                document = try document.setting(new, at: DocumentPath(steps: steps))
            }
        }
        return DocumentPath(steps: steps)
    }

    private static func item(at step: DocumentPath.Step, of items: [Node]) -> Node? {
        switch step {
        case .index(let index): items.indices.contains(index) ? items[index] : nil
        case .name(let name): items.first { $0.itemName == name }
        case .key: nil
        }
    }
}
