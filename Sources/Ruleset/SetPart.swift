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
}
