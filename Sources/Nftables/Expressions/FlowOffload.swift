import CNftables
import Ruleset

extension Statement.FlowOffload: LoweredStatement {
    /// `flow_offload` (NFTA_FLOW_*).
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) {
        try Bounds.check(name: flowtable)
        try program.add("flow_offload") {
            nftnl_expr_set_str($0, UInt16(NFTNL_EXPR_FLOW_TABLE_NAME), flowtable)
        }
    }
}
