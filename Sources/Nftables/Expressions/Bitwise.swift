import CNftables
import Ruleset

extension RuleProgram {
    /// `bitwise` (NFTA_BITWISE_*): register 1 becomes (register 1 & mask) ^ xor.
    mutating func bitwise(_ type: DataType, mask: [UInt8], xor: [UInt8]? = nil) throws(UnsupportedRuleset) {
        let xor = xor ?? [UInt8](repeating: 0, count: type.length)
        try add("bitwise") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_BITWISE_SREG), 1)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_BITWISE_DREG), 1)
            // Mask and xor; the header's name for it differs from release to release.
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_BITWISE_OP), 0)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_BITWISE_LEN), UInt32(type.length))
            nftnl_expr_set(expression, UInt16(NFTNL_EXPR_BITWISE_MASK), mask, UInt32(mask.count))
            nftnl_expr_set(expression, UInt16(NFTNL_EXPR_BITWISE_XOR), xor, UInt32(xor.count))
        }
    }
}
