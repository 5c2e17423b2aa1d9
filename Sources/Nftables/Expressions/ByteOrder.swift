import CNftables
import Ruleset

extension RuleProgram {
    /// `byteorder` (NFTA_BYTEORDER_*): register 1 from the host's order to that of the wire.
    mutating func swapBytes(_ length: Int) throws(UnsupportedRuleset) {
        try add("byteorder") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_BYTEORDER_SREG), 1)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_BYTEORDER_DREG), 1)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_BYTEORDER_OP), NFT_BYTEORDER_HTON.rawValue)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_BYTEORDER_LEN), UInt32(length))
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_BYTEORDER_SIZE), UInt32(length))
        }
    }
}
