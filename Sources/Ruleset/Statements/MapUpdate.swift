import Documents

extension Statement {
    /// Puts the key into a map, leading to what the packet's values are.
    public struct MapUpdate: StatementType {
        public var operation: SetOperation
        public var key: Expression
        public var data: Expression
        public var map: String
        /// Seconds.
        public var timeout: Int?

        public init(
            _ operation: SetOperation, _ key: Expression, _ data: Expression, map: String, timeout: Int? = nil
        ) {
            (self.operation, self.key, self.data) = (operation, key, data)
            (self.map, self.timeout) = (map, timeout)
        }

        public static let names = ["map"]

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
            guard let operation = (body["op"]?.text).flatMap(SetOperation.init), let key = body["elem"],
                let data = body["data"], let map = body["map"]?.reference
            else {
                throw UnsupportedRuleset(
                    json, "this use of a map", allowed: SetOperation.allCases.map { "op \($0.rawValue)" })
            }
            let inner = key["elem"]
            self.init(
                operation, try Expression(inner?["val"] ?? key), try Expression(data), map: map,
                timeout: try JSON.seconds(inner?["timeout"]))
        }

        public var json: JSON {
            [
                "map": [
                    "op": .text(operation.rawValue), "elem": key.json(timeout: timeout), "data": data.json,
                    "map": .text("@" + map),
                ]
            ]
        }
    }

    public static func mapElement(
        _ operation: SetOperation, _ key: Expression, _ data: Expression, map: String, timeout: Int? = nil
    ) -> Statement {
        Statement(MapUpdate(operation, key, data, map: map, timeout: timeout))
    }
}
