import Documents

extension Statement {
    /// Puts the connection into a flowtable.
    public struct FlowOffload: StatementType {
        public var flowtable: String

        public init(_ flowtable: String) { self.flowtable = flowtable }

        public static let names = ["flow"]

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
            guard body["op"]?.text == "add", let flowtable = body["flowtable"]?.reference else {
                throw UnsupportedRuleset(json, "this use of a flowtable", allowed: ["op add with a named flowtable"])
            }
            self.init(flowtable)
        }

        public var json: JSON { ["flow": ["op": "add", "flowtable": .text("@" + flowtable)]] }
    }

    public static func flow(_ flowtable: String) -> Statement { Statement(FlowOffload(flowtable)) }
}
