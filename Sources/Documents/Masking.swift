extension Node {
    /// Keys whose values are nobody's to read, whichever plugin they belong to.
    static let secretKeys: Set<String> = [
        "password", "password-hash", "passphrase", "secret", "psk", "pre-shared-key", "private-key", "token",
    ]

    /// What stands in a secret's place where a document is shown.
    public static let mask = "********"

    /// True when something in the document is nobody's to read.
    public var hasSecrets: Bool {
        switch value {
        case .scalar: false
        case .sequence(let items): items.contains(where: \.hasSecrets)
        case .mapping(let entries): entries.contains { Self.secretKeys.contains($0.key) || $0.value.hasSecrets }
        }
    }

    /// The document with masks in the places of its secrets.
    public var masked: Node {
        mapped { key, node in
            Self.secretKeys.contains(key)
                ? Node(value: .scalar(.init(text: Self.mask, isPlain: false)), position: node.position) : nil
        }
    }

    private func mapped(_ replace: (String, Node) -> Node?) -> Node {
        switch value {
        case .scalar: return self
        case .sequence(let items): return Node(value: .sequence(items.map { $0.mapped(replace) }), position: position)
        case .mapping(let entries):
            return Node(
                value: .mapping(
                    entries.map { entry in
                        var entry = entry
                        entry.value = replace(entry.key, entry.value) ?? entry.value.mapped(replace)
                        return entry
                    }), position: position)
        }
    }

    /// The texts that are nobody's to read.
    public var secretTexts: [String] { secretTexts(isSecret: false) }

    private func secretTexts(isSecret: Bool) -> [String] {
        switch value {
        case .scalar(let scalar): isSecret ? [scalar.text] : []
        case .sequence(let items): items.flatMap { $0.secretTexts(isSecret: isSecret) }
        case .mapping(let entries):
            entries.flatMap { $0.value.secretTexts(isSecret: isSecret || Self.secretKeys.contains($0.key)) }
        }
    }

    /// Where a mask stands that is no secret.
    public var firstMask: Node? {
        switch value {
        case .scalar(let scalar): return scalar.text == Self.mask ? self : nil
        // A lazy map would search what it finds twice, at each level.
        case .sequence(let items):
            for item in items { if let mask = item.firstMask { return mask } }
            return nil
        case .mapping(let entries):
            for entry in entries { if let mask = entry.value.firstMask { return mask } }
            return nil
        }
    }

    /// The document that a caller means who edited one that was shown masked: a mask stands for
    /// what `old` has in the same place. List items are told apart by their names, and those of one
    /// name by the rest of them. A mask that may stand for several values stays.
    public func unmasked(by old: Node?) -> Node {
        switch value {
        case .scalar(let scalar):
            if scalar.text == Self.mask, let old { return old }
            return self
        case .sequence(let items):
            guard case .sequence(let before)? = old?.value else { return self }
            let named = Dictionary(grouping: before) { $0.itemName }
            // Of names that several items have: these by the rest of them.
            var masked: [String: [String: [Node]]] = [:]
            return Node(
                value: .sequence(
                    items.map { item in
                        guard item.firstMask != nil, let name = item.itemName, let known = named[name] else {
                            return item
                        }
                        if known.count == 1 { return item.unmasked(by: known.first) }
                        let same = masked.value(of: name) { Dictionary(grouping: known) { $0.masked.canonical } }
                        // Of a list with two keys, several have the first one: which is meant is
                        // not guessed.
                        guard let found = same[item.masked.canonical], found.count == 1 else { return item }
                        return item.unmasked(by: found.first)
                    }), position: position)
        case .mapping(let entries):
            guard case .mapping(let before)? = old?.value else { return self }
            let known = Dictionary(before.map { ($0.key, $0.value) }) { first, _ in first }
            return Node(
                value: .mapping(
                    entries.map { entry in
                        var entry = entry
                        if entry.value.firstMask != nil { entry.value = entry.value.unmasked(by: known[entry.key]) }
                        return entry
                    }), position: position)
        }
    }
}

extension Dictionary {
    /// The value of a key, which is made where there is none yet.
    fileprivate mutating func value(of key: Key, _ make: () -> Value) -> Value {
        if let value = self[key] { return value }
        let value = make()
        self[key] = value
        return value
    }
}
