extension Node {
    /// This document laid over `base`: mappings merge key by key, lists append to the base's, anything else replaces.
    /// Every value keeps the position where it was written.
    public func extending(_ base: Node) -> Node {
        switch (base.value, value) {
        case (.mapping(let below), .mapping(let above)):
            var entries = below
            for entry in above {
                guard let i = entries.firstIndex(where: { $0.key == entry.key }) else {
                    entries.append(entry)
                    continue
                }
                entries[i].value = entry.value.extending(entries[i].value)
                entries[i].keyPosition = entry.keyPosition
            }
            return Node(value: .mapping(entries), position: position)
        case (.sequence(let below), .sequence(let above)):
            return Node(value: .sequence(below + above), position: position)
        default: return self
        }
    }

    /// The entry at `key` of a mapping.
    public subscript(key: String) -> Entry? {
        guard case .mapping(let entries) = value else { return nil }
        return entries.first { $0.key == key }
    }

    /// A mapping without `key`; anything else as it is.
    public func without(_ key: String) -> Node {
        guard case .mapping(let entries) = value else { return self }
        return Node(value: .mapping(entries.filter { $0.key != key }), position: position)
    }
}

extension Node {
    /// The document without positions, comments and layout: the same meaning gives the same text.
    public var canonical: String {
        switch value {
        case .scalar(let scalar): (scalar.isPlain ? "p" : "q") + JSON.text(scalar.text).line
        case .sequence(let items): "[" + items.map(\.canonical).joined(separator: ",") + "]"
        case .mapping(let entries):
            "{"
                + entries.sorted { $0.key < $1.key }.map { JSON.text($0.key).line + ":" + $0.value.canonical }
                .joined(separator: ",") + "}"
        }
    }
}
