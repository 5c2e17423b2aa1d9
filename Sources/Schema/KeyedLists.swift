import Documents

extension Schema {
    /// A node whose children are those at the top.
    public var root: Node { Node(name: "", kind: .container, values: [], type: "", children: top.map(\.node)) }

    /// Why a path can't be locked: one that matches nothing would lock nothing. Nil for one that
    /// can.
    ///
    /// - Parameter keys: that plugins read at the top of a document.
    public func objection(toLocking path: DocumentPath, keys: [String]) -> (message: String, hint: String)? {
        root.objection(toLocking: path, keys)
    }
}

extension Schema.Node {
    /// Whether items of the list are told apart by a key.
    public var isKeyed: Bool { kind == .list && !keys.isEmpty }

    /// Whether the one key of the list is a number.
    var hasNumericKey: Bool {
        let types = children.filter { keys.contains($0.name) }.map(\.type)
        return keys.count == 1 && types.count == 1 && types.allSatisfy { $0.hasPrefix("int") || $0.hasPrefix("uint") }
    }

    /// The values of an item's keys in their canonical form, with a blank between them; nil for an
    /// item without one of them.
    public func key(of item: Documents.Node) -> String? {
        var values: [String] = []
        for key in keys {
            guard let entry = item[key], case .scalar(let scalar) = entry.value.value else { return nil }
            // Also where the type is not known: a plugin gets the number 7 for 07.
            let text = scalar.isPlain ? Int(scalar.text).map { String($0) } ?? scalar.text : scalar.text
            values.append(children.first { $0.name == key }?.canonical(text) ?? text)
        }
        return values.isEmpty ? nil : values.joined(separator: " ")
    }

    /// A step to the item with a key, as ``DocumentPath`` reads it.
    static func step(_ key: String) -> DocumentPath.Step { Int(key).map { .index($0) } ?? .name(key) }

    /// A path below this node with the canonical values of the keys in it.
    func canonical(_ path: DocumentPath) -> DocumentPath {
        var node: Schema.Node? = self
        let steps = path.steps.map { step -> DocumentPath.Step in
            let text: String
            switch step {
            case .key(let key):
                node = node?.children.first { $0.name == key }
                return step
            case .name(let name): text = name
            case .index(let index): text = "\(index)"
            }
            let values = text.split(separator: " ").map(String.init)
            guard let list = node, list.isKeyed, values.count == list.keys.count else { return step }
            let canonical = zip(list.keys, values).map { key, value in
                list.children.first { $0.name == key }?.canonical(value) ?? value
            }
            return Self.step(canonical.joined(separator: " "))
        }
        return DocumentPath(steps: steps)
    }

    /// Why a path can't be locked. A path that matches nothing would lock nothing.
    func objection(
        toLocking path: DocumentPath, _ keys: [String]
    ) -> (message: String, hint: String)? {
        guard case .key(let top)? = path.steps.first, keys.contains(top) else {
            let wrong = path.steps.first.map { "\(DocumentPath(steps: [$0]))" } ?? ""
            let meant = didYouMean(wrong, among: keys).map { "did you mean \($0)? " } ?? ""
            return (
                "no plugin of this image reads this key", meant + "keys are \(keys.sorted().joined(separator: ", "))"
            )
        }
        // A plugin without a module has no known path below its key.
        guard var node = children.first(where: { $0.name == top }) else {
            let isAll = path.steps.count == 1
            return isAll ? nil : ("the plugin has no YANG module that has this path", "lock \(top) as a whole")
        }
        // Whether the step before has selected an item of the list.
        var isItem = false
        for step in path.steps.dropFirst() {
            switch step {
            case .key where node.isKeyed && !isItem:
                return (
                    "\(node.name) is a list", "lock it as a whole, or an item by its key: \(node.name)[…]"
                )
            case .key(let key):
                isItem = false
                guard let child = node.children.first(where: { $0.name == key && $0.isConfiguration }) else {
                    let names = node.children.filter(\.isConfiguration).map(\.name)
                    let meant = didYouMean(key, among: names).map { "did you mean \($0)? " } ?? ""
                    return ("\(node.name) has no \(key)", meant + "it has \(names.sorted().joined(separator: ", "))")
                }
                node = child
            case .name(let text) where node.isKeyed && !isItem:
                guard text.split(separator: " ").count == node.keys.count else {
                    return (
                        "an item of \(node.name) has the keys \(node.keys.joined(separator: ", "))",
                        "name the values of all of them, with blanks between"
                    )
                }
                isItem = true
            // A key may be a number; a place in the list is none.
            case .index where node.isKeyed && !isItem && node.hasNumericKey: isItem = true
            case .name, .index:
                return (
                    "an item is locked by the value of its key",
                    node.isKeyed
                        ? "write the value of its key in brackets, once"
                        : "\(node.name) has no key: lock it as a whole"
                )
            }
        }
        return nil
    }
}
