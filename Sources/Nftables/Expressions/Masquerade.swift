import Ruleset

extension Statement.Masquerade: LoweredStatement {
    /// `masq` (NFTA_MASQ_*).
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) { try program.add("masq") { _ in } }
}
