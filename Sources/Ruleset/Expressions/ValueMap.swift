import Documents

/// A key of a map without a name, and the value that it leads to.
public struct ValueMapEntry: Sendable, Hashable {
    public var key: Expression
    public var value: Expression

    public init(_ key: Expression, _ value: Expression) { (self.key, self.value) = (key, value) }

    init(_ json: JSON) throws(UnsupportedRuleset) {
        guard let pair = json.list, pair.count == 2 else {
            throw UnsupportedRuleset(json, "this entry of a map", allowed: ["a pair of key and value"])
        }
        self.init(try Expression(pair[0]), try Expression(pair[1]))
    }

    var json: JSON { [key.json, value.json] }
}

extension Expression {
    static func map(_ body: JSON, of json: JSON) throws(UnsupportedRuleset) -> Expression {
        guard let key = body["key"], let data = body["data"] else {
            throw UnsupportedRuleset(json, "a map without key or data")
        }
        if let name = data.reference { return .map(try Expression(key), name) }
        guard let items = data["set"]?.list, !items.isEmpty else {
            throw UnsupportedRuleset(json, "this map", allowed: ["a named map", "a set of pairs"])
        }
        var entries: [ValueMapEntry] = []
        for item in items { entries.append(try ValueMapEntry(item)) }
        return .valueMap(try Expression(key), entries)
    }
}
