import Documents

extension Statement {
    /// Has a named helper follow the connection.
    public struct HelperAssignment: StatementType {
        public var helper: String

        public init(_ helper: String) { self.helper = helper }

        public static let names = ["ct helper"]

        public init(_ name: String, _ body: JSON, of json: JSON) throws(UnsupportedRuleset) {
            guard let helper = body.text else {
                throw UnsupportedRuleset(json, "this helper", allowed: ["a helper's name"])
            }
            self.init(helper)
        }

        public var json: JSON { ["ct helper": .text(helper)] }
    }

    public static func helper(_ helper: String) -> Statement { Statement(HelperAssignment(helper)) }
}
