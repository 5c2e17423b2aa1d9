import Documents

extension Statement {
    /// Counts with the counter that a named map has for the key; nothing found, the rule ends here.
    public struct CounterMap: StatementType {
        public var key: Expression
        public var map: String

        public init(_ key: Expression, map: String) { (self.key, self.map) = (key, map) }

        /// A counter by its name alone is ``Statement/counter(_:)``.
        public static let names = ["counter"]

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
            guard let found = body["map"], let key = found["key"], let map = found["data"]?.reference else {
                throw UnsupportedRuleset(json, "an anonymous counter (it loses its count at every change)")
            }
            self.init(try Expression(key), map: map)
        }

        public var json: JSON { ["counter": ["map": ["key": key.json, "data": .text("@" + map)]]] }
    }

    public static func counterMap(_ key: Expression, _ map: String) -> Statement {
        Statement(CounterMap(key, map: map))
    }
}
