import Ruleset

extension Statement.MapUpdate: LoweredStatement {
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) {
        try program.element(operation, key, data: data, set: map, timeout: timeout)
    }
}
