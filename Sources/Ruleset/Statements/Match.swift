import Documents

extension Statement {
    public enum Comparison: String, Sendable, CaseIterable {
        case equal = "=="
        case notEqual = "!="
        case less = "<"
        case lessOrEqual = "<="
        case greater = ">"
        case greaterOrEqual = ">="
        /// Any of these bits.
        case any = "in"
    }

    static func match(_ body: JSON, of json: JSON) throws(UnsupportedRuleset) -> Statement {
        guard let comparison = (body["op"]?.text).flatMap(Comparison.init) else {
            throw UnsupportedRuleset(json, "this operator", allowed: Comparison.allCases.map(\.rawValue))
        }
        guard let left = body["left"], let right = body["right"] else {
            throw UnsupportedRuleset(json, "a match without left or right")
        }
        return .match(try Expression(left), comparison, try Expression(right))
    }

    static func json(_ left: Expression, _ comparison: Comparison, _ right: Expression) -> JSON {
        // "missing" and "exists" are booleans in JSON.
        let value: JSON =
            if case .selector(let selector) = left, selector.isBoolean, case .number(let number) = right {
                .boolean(number != 0)
            } else {
                right.json
            }
        return ["match": ["op": .text(comparison.rawValue), "left": left.json, "right": value]]
    }
}
