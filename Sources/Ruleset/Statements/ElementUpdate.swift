import Documents

extension Statement {
    public enum SetOperation: String, Sendable, CaseIterable { case add, update, delete }

    /// What a set keeps for each of its keys.
    public enum Each: Sendable, Hashable {
        case limit(Limit)
        /// Connections at once; matches those beyond.
        case connections(over: Int)
    }

    /// Puts the key into a set, for `timeout` seconds; with what is kept for each key, goes on where that says so.
    public struct ElementUpdate: StatementType {
        public var operation: SetOperation
        public var key: Expression
        public var set: String
        public var timeout: Int?
        public var each: Each?

        public init(_ operation: SetOperation, _ key: Expression, set: String, timeout: Int?, each: Each? = nil) {
            (self.operation, self.key, self.set) = (operation, key, set)
            (self.timeout, self.each) = (timeout, each)
        }

        public static let names = ["set"]

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
            guard let operation = (body["op"]?.text).flatMap(SetOperation.init), let element = body["elem"],
                let set = body["set"]?.reference
            else {
                throw UnsupportedRuleset(
                    json, "this use of a set", allowed: SetOperation.allCases.map { "op \($0.rawValue)" })
            }
            let inner = element["elem"]
            var each: Each?
            if let items = body["stmt"]?.list, !items.isEmpty {
                guard items.count == 1, let (what, inner) = items[0].single else {
                    throw UnsupportedRuleset(json, "other than one thing for each element")
                }
                switch what {
                case "limit": each = .limit(try Limit(what, inner, of: items[0]))
                case "ct count":
                    guard let count = inner["val"]?.integer, count > 0, inner["inv"]?.boolean == true else {
                        throw UnsupportedRuleset(json, "a count of connections but \"over\"")
                    }
                    each = .connections(over: count)
                default: throw UnsupportedRuleset(json, "\"\(what)\" for each element", allowed: ["limit", "ct count"])
                }
            }
            self.init(
                operation, try Expression(inner?["val"] ?? element), set: set,
                timeout: try JSON.seconds(inner?["timeout"]), each: each)
        }

        public var json: JSON {
            let kept: JSON? =
                switch each {
                case nil: nil
                case .limit(let limit): limit.json
                case .connections(let count): ["ct count": ["val": .integer(count), "inv": true]]
                }
            return [
                "set": .object([
                    "op": .text(operation.rawValue), "elem": key.json(timeout: timeout), "set": .text("@" + set),
                    "stmt": kept.map { .list([$0]) },
                ])
            ]
        }
    }

    public static func element(
        _ operation: SetOperation, _ key: Expression, set: String, timeout: Int?, each: Each? = nil
    ) -> Statement {
        Statement(ElementUpdate(operation, key, set: set, timeout: timeout, each: each))
    }
}

extension Expression {
    /// A key of a set with its time.
    func json(timeout: Int?) -> JSON { timeout.map { ["elem": ["val": json, "timeout": .integer($0)]] } ?? json }
}
