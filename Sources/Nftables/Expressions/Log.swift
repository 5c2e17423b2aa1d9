import CNftables
import Ruleset

extension RuleProgram {
    /// `log` (NFTA_LOG_*): to the kernel's log, or to a group of nflog.
    mutating func log(_ log: Statement.Log) throws(UnsupportedRuleset) {
        try add("log") { expression in
            if let prefix = log.prefix { nftnl_expr_set_str(expression, UInt16(NFTNL_EXPR_LOG_PREFIX), prefix) }
            if let group = log.group {
                nftnl_expr_set_u16(expression, UInt16(NFTNL_EXPR_LOG_GROUP), UInt16(clamping: group))
            }
            if let level = log.level.flatMap({ Statement.Log.levels.firstIndex(of: $0) }) {
                nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_LOG_LEVEL), UInt32(level))
            }
        }
    }
}
