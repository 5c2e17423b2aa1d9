import CNftables
import Ruleset

extension RuleProgram {
    /// `rt` (NFTA_RT_*): the largest segment of TCP for the packet's route, in the host's order.
    mutating func routeMTU(into register: UInt32) throws(UnsupportedRuleset) {
        try add("rt") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_RT_KEY), NFT_RT_TCPMSS.rawValue)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_RT_DREG), register)
        }
    }
}
