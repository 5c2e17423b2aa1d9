import CNftables
import Ruleset

extension RuleProgram {
    /// `numgen` (NFTA_NG_*): a number into register 1.
    mutating func load(_ generator: NumberGenerator) throws(UnsupportedRuleset) -> DataType {
        try add("numgen") { expression in
            let type = generator.mode == .increment ? NFT_NG_INCREMENTAL : NFT_NG_RANDOM
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_NG_DREG), 1)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_NG_MODULUS), UInt32(clamping: generator.modulus))
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_NG_TYPE), type.rawValue)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_NG_OFFSET), UInt32(clamping: generator.offset))
        }
        return .hostInteger(4)
    }
}
