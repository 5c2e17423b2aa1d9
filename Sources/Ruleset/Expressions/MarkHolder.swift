import Documents

/// What has a mark. Raw values are the selectors of libnftables.
public enum MarkHolder: String, Sendable, CaseIterable {
    case packet = "meta"
    case connection = "ct"
}

extension Selector {
    /// The field of a mark that a selector names: `{"meta": {"key": "mark", "field": "hop"}}`. Nil where it
    /// names none.
    static func markField(_ holder: MarkHolder, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) -> Selector? {
        guard body["key"]?.text == "mark", let field = body["field"] else { return nil }
        guard let name = field.text else { throw UnsupportedRuleset(json, "this field of a mark", allowed: ["a name"]) }
        return .markField(holder, name)
    }
}
