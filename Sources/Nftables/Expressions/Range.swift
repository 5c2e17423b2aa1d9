import CNftables
import Ruleset

extension RuleProgram {
    /// `range` (NFTA_RANGE_*): goes on when register 1 lies outside of the two, both included.
    mutating func outside(_ first: [UInt8], _ last: [UInt8]) throws(UnsupportedRuleset) {
        try add("range") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_RANGE_SREG), 1)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_RANGE_OP), NFT_RANGE_NEQ.rawValue)
            nftnl_expr_set(expression, UInt16(NFTNL_EXPR_RANGE_FROM_DATA), first, UInt32(first.count))
            nftnl_expr_set(expression, UInt16(NFTNL_EXPR_RANGE_TO_DATA), last, UInt32(last.count))
        }
    }
}
