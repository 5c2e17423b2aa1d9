import Documents
import PluginKit

/// The edits of a plugin's command in the document of one owner. The plugin knows the merged
/// document alone: its paths count items of merged lists.
struct PluginEdits {
    /// The merged document.
    let site: Node
    /// Whose document is edited; nil where it is the only one.
    let owner: SiteDocument?
    private(set) var document: Node
    private(set) var isChanged = false

    init(of document: Node, site: Node, owner: SiteDocument?) {
        (self.document, self.site, self.owner) = (document, site, owner)
    }

    mutating func set(_ value: Node, at path: DocumentPath) throws {
        document = try document.setting(value, at: own(path))
        isChanged = true
    }

    mutating func remove(at path: DocumentPath) throws {
        let place = own(path)
        if let owner, document.value(at: place) == nil, let other = site.value(at: path) {
            throw EngineError("\(path): the document \(owner.rawValue) does not set it; \(other.position) does")
        }
        document = try document.removing(at: place)
        isChanged = true
    }

    mutating func insert(_ value: Node, at index: Int, of path: DocumentPath) throws {
        let place = own(path)
        var index = index
        if owner != nil, case .sequence(let all)? = site.value(at: path)?.value {
            var names: Set<String> = []
            if case .sequence(let items)? = document.value(at: place)?.value {
                names = Set(items.map { $0.itemName ?? $0.canonical })
            }
            index = all.prefix(index).count { names.contains($0.itemName ?? $0.canonical) }
        }
        document = try document.inserting(value, at: index, of: place)
        isChanged = true
    }

    /// A path of the merged document as one of the owner's: items of lists that both have are told
    /// by their names.
    private func own(_ path: DocumentPath) -> DocumentPath {
        if owner == nil { return path }
        var (steps, above): ([DocumentPath.Step], [DocumentPath.Step]) = ([], [])
        for step in path.steps {
            let whole = site.value(at: DocumentPath(steps: above))
            above.append(step)
            guard case .index(let index) = step, case .sequence(let items)? = whole?.value,
                items.indices.contains(index), let name = items[index].itemName,
                document.value(at: DocumentPath(steps: steps))?.canonical != whole?.canonical
            else {
                steps.append(step)
                continue
            }
            steps.append(.name(name))
        }
        return DocumentPath(steps: steps)
    }
}
