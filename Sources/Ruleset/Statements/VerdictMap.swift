import Documents

/// A key and where it leads.
public struct VerdictMapEntry: Sendable, Hashable {
    public var key: Expression
    public var verdict: Verdict

    public init(_ key: Expression, _ verdict: Verdict) {
        self.key = key
        self.verdict = verdict
    }

    init(_ json: JSON) throws(UnsupportedRuleset) {
        guard let pair = json.list, pair.count == 2, let verdict = Verdict(pair[1]) else {
            throw UnsupportedRuleset(json, "this entry of a verdict map")
        }
        self.init(try Expression(pair[0]), verdict)
    }

    var json: JSON { [key.json, verdict.json] }
}

extension Statement {
    static func verdictMap(_ body: JSON, of json: JSON) throws(UnsupportedRuleset) -> Statement {
        guard let key = body["key"], let data = body["data"] else {
            throw UnsupportedRuleset(json, "a vmap without key or data")
        }
        if let name = data.reference { return .namedVerdictMap(try Expression(key), name) }
        guard let items = data["set"]?.list else {
            throw UnsupportedRuleset(json, "this vmap", allowed: ["a named map", "a set of pairs"])
        }
        var entries: [VerdictMapEntry] = []
        for item in items { entries.append(try VerdictMapEntry(item)) }
        return .verdictMap(try Expression(key), entries)
    }
}
