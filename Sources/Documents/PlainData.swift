extension JSON {
    /// A document as plain data. Plain scalars become numbers, booleans and null where they are
    /// written as those and nothing is lost; anything else is text.
    public init(_ node: Node) {
        switch node.value {
        case .scalar(let scalar):
            if node.isNull {
                self = .null
            } else if scalar.isPlain, let value = scalar.number {
                self = .integer(value)
            } else if scalar.isPlain, scalar.text == "true" || scalar.text == "false" {
                self = .boolean(scalar.text == "true")
            } else {
                self = .text(scalar.text)
            }
        case .sequence(let items): self = .list(items.map { JSON($0) })
        case .mapping(let entries): self = .object(Dictionary(entries.map { ($0.key, JSON($0.value)) }) { $1 })
        }
    }
}

extension Node {
    /// Plain data as a document whose nodes all stand at `position`.
    public init(_ json: JSON, position: SourcePosition) {
        func scalar(_ text: String, isPlain: Bool) -> Value { .scalar(.init(text: text, isPlain: isPlain)) }
        let value: Value =
            switch json {
            case .null: scalar("null", isPlain: true)
            case .boolean(let value): scalar(value ? "true" : "false", isPlain: true)
            case .integer(let value): scalar(String(value), isPlain: true)
            case .text(let text): scalar(text, isPlain: false)
            case .list(let items): .sequence(items.map { Node($0, position: position) })
            case .object(let entries):
                .mapping(
                    entries.sorted { $0.key < $1.key }.map {
                        Entry(key: $0.key, keyPosition: position, value: Node($0.value, position: position))
                    })
            }
        self.init(value: value, position: position)
    }
}

extension Node.Scalar {
    /// The number that it is, where that is written like it.
    fileprivate var number: Int? {
        guard let first = text.utf8.first, first < UInt8(ascii: ":"), let value = Int(text), String(value) == text
        else { return nil }
        return value
    }
}

extension Node {
    /// Appends the text of ``JSON/line`` of the node as plain data.
    public func writeJSON(into bytes: inout [UInt8]) {
        switch value {
        case .scalar(let scalar):
            if scalar.isPlain, isNull || scalar.text == "true" || scalar.text == "false" || scalar.number != nil {
                bytes.append(contentsOf: (isNull ? "null" : scalar.text).utf8)
            } else {
                JSON.writeQuoted(scalar.text, into: &bytes)
            }
        case .sequence(let items):
            bytes.append(UInt8(ascii: "["))
            for i in items.indices {
                if i > 0 { bytes.append(UInt8(ascii: ",")) }
                items[i].writeJSON(into: &bytes)
            }
            bytes.append(UInt8(ascii: "]"))
        case .mapping(let entries):
            bytes.append(UInt8(ascii: "{"))
            var isFirst = true
            for i in Self.order(of: entries) {
                if !isFirst { bytes.append(UInt8(ascii: ",")) }
                isFirst = false
                JSON.writeQuoted(entries[i].key, into: &bytes)
                bytes.append(UInt8(ascii: ":"))
                entries[i].value.writeJSON(into: &bytes)
            }
            bytes.append(UInt8(ascii: "}"))
        }
    }

    /// Places of entries in the order of their keys. Mappings are short and mostly in one order.
    private static func order(of entries: [Entry]) -> [Int] {
        if entries.count > 32 { return entries.indices.sorted { entries[$0].key < entries[$1].key } }
        var order: [Int] = []
        order.reserveCapacity(entries.count)
        for i in entries.indices {
            var place = order.count
            while place > 0, entries[i].key < entries[order[place - 1]].key { place -= 1 }
            order.insert(i, at: place)
        }
        return order
    }
}
