import CNftables
import Ruleset

extension RuleProgram {
    /// `payload` (NFTA_PAYLOAD_*): bytes of a header.
    mutating func payload(_ field: HeaderField, length: Int, into register: UInt32) throws(UnsupportedRuleset) {
        try add("payload") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_PAYLOAD_DREG), register)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_PAYLOAD_BASE), field.base)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_PAYLOAD_OFFSET), field.offset)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_PAYLOAD_LEN), UInt32(length))
        }
    }
}
