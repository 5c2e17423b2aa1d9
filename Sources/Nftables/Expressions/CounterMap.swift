import CNftables
import Ruleset

extension Statement.CounterMap: LoweredStatement {
    /// `objref` (NFTA_OBJREF_*) with a map.
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) {
        try Bounds.check(name: map)
        try program.load(key)
        try program.add("objref") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_OBJREF_SET_SREG), 1)
            nftnl_expr_set_str(expression, UInt16(NFTNL_EXPR_OBJREF_SET_NAME), map)
        }
    }
}
