import Documents

extension Statement {
    /// Connection tracking leaves the packet alone.
    public struct NoTrack: StatementType {
        public init() {}

        public static let names = ["notrack"]

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {}

        public var json: JSON { ["notrack": .null] }
    }

    public static var notrack: Statement { Statement(NoTrack()) }
}
