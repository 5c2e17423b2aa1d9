import Documents

/// Elements of a set that is planned beside them.
public struct SetPart: Sendable, Hashable {
    public var set: String
    /// Unique among the set's parts.
    public var part: String
    /// As the set has it.
    public var content: NamedSet.Content
    public var elements: [SetElement]

    public init(of set: NamedSet, part: String, _ elements: [SetElement]) {
        (self.set, self.part, content, self.elements) = (set.name, part, set.content, elements)
    }

    /// Reads a plan's JSON.
    public init(_ json: JSON) throws(UnsupportedRuleset) {
        guard let set = json["set"]?.text, let part = json["part"]?.text, let items = json["elem"]?.list else {
            throw UnsupportedRuleset(json, "elements without set, part and elem")
        }
        (self.set, self.part) = (set, part)
        content = try NamedSet.Content(map: json["map"], of: json)
        elements = []
        elements.reserveCapacity(items.count)
        for item in items { elements.append(try SetElement(item, content)) }
    }

    public var json: JSON {
        .object([
            "set": .text(set), "part": .text(part), "map": content.map, "elem": .list(elements.map(\.json)),
        ])
    }

    /// Appends the text of ``json``.
    public func writeJSON(into bytes: inout [UInt8]) {
        bytes.append(contentsOf: #"{"elem":["#.utf8)
        for i in elements.indices {
            if i > 0 { bytes.append(UInt8(ascii: ",")) }
            elements[i].writeJSON(into: &bytes)
        }
        bytes.append(UInt8(ascii: "]"))
        if let map = content.map {
            bytes.append(contentsOf: #","map":"#.utf8)
            map.write(into: &bytes)
        }
        bytes.append(contentsOf: #","part":"#.utf8)
        JSON.writeQuoted(part, into: &bytes)
        bytes.append(contentsOf: #","set":"#.utf8)
        JSON.writeQuoted(set, into: &bytes)
        bytes.append(UInt8(ascii: "}"))
    }
}
