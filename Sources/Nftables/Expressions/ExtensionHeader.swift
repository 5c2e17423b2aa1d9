import CNftables
import Ruleset

extension RuleProgram {
    /// `exthdr` (NFTA_EXTHDR_*): whether the packet has IPv6's header of fragments.
    mutating func fragmentHeader(into register: UInt32) throws(UnsupportedRuleset) {
        try add("exthdr") { expression in
            // IPPROTO_FRAGMENT, NFT_EXTHDR_F_PRESENT
            nftnl_expr_set_u8(expression, UInt16(NFTNL_EXPR_EXTHDR_TYPE), 44)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_EXTHDR_OFFSET), 0)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_EXTHDR_LEN), 1)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_EXTHDR_FLAGS), 1)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_EXTHDR_DREG), register)
        }
    }
}
