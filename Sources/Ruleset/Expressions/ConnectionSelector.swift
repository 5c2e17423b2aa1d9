import Documents

/// `ct`: keys of the connection, and of one of its directions.
extension Selector {
    static func connection(_ body: JSON, of json: JSON) throws(UnsupportedRuleset) -> Selector {
        if let field = try markField(.connection, body, of: json) { return field }
        let directed = ["zone"] + Traffic.allCases.map(\.rawValue)
        var direction: Direction?
        if let found = body["dir"] {
            direction = found.text.flatMap(Direction.init)
            guard direction != nil else {
                throw UnsupportedRuleset(json, "this direction of ct", allowed: Direction.allCases.map(\.rawValue))
            }
        }
        switch body["key"]?.text {
        case "zone"?: return .zone(direction)
        case let key?:
            if let traffic = Traffic(rawValue: key) { return .traffic(direction, traffic) }
            guard let direction else {
                if let known = ConnectionKey(rawValue: key) { return .ct(known) }
                break
            }
            if let field = TupleField(rawValue: key) { return .tuple(direction, field) }
            throw UnsupportedRuleset(
                json, "this ct key with a direction", allowed: TupleField.allCases.map(\.rawValue) + directed)
        case nil: break
        }
        throw UnsupportedRuleset(
            json, "this ct key", allowed: ConnectionKey.allCases.map(\.rawValue) + directed)
    }

    static func connection(_ key: String, _ direction: Direction?) -> JSON {
        ["ct": .object(["key": .text(key), "dir": direction.map { .text($0.rawValue) }])]
    }
}
