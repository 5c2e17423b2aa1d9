import CNftables
import Ruleset

extension Statement.Log: LoweredStatement {
    /// `log` (NFTA_LOG_*): to the kernel's log, or to a group of nflog.
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) {
        try program.add("log") { expression in
            if let prefix { nftnl_expr_set_str(expression, UInt16(NFTNL_EXPR_LOG_PREFIX), prefix) }
            if let group { nftnl_expr_set_u16(expression, UInt16(NFTNL_EXPR_LOG_GROUP), UInt16(clamping: group)) }
            if let level = level.flatMap({ Self.levels.firstIndex(of: $0) }) {
                nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_LOG_LEVEL), UInt32(level))
            }
        }
    }
}
