import Documents

extension Statement {
    /// Has the kernel report every rule that the packet meets from here on. The engine's alone: no plan may have it.
    public struct Trace: StatementType {
        public init() {}

        public static let names: [String] = []

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
            throw UnsupportedRuleset(json, "tracing by a plan")
        }

        public var json: JSON { ["mangle": ["key": ["meta": ["key": "nftrace"]], "value": 1]] }
    }

    public static var trace: Statement { Statement(Trace()) }
}
