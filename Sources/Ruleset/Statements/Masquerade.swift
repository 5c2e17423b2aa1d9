import Documents

extension Statement {
    /// The source becomes the outgoing interface's address.
    public struct Masquerade: StatementType {
        public init() {}

        public static let names = ["masquerade"]

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
            guard body == .null else { throw UnsupportedRuleset(json, "masquerade with options") }
        }

        public var json: JSON { ["masquerade": .null] }
    }

    public static var masquerade: Statement { Statement(Masquerade()) }
}
