import Ruleset

extension Statement.NoTrack: LoweredStatement {
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) { try program.add("notrack") { _ in } }
}
