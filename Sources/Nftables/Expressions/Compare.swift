import CNftables
import Ruleset

extension RuleProgram {
    /// `cmp` (NFTA_CMP_*): goes on when register 1 compares so to a constant.
    mutating func compare(_ comparison: Statement.Comparison, _ value: [UInt8]) throws(UnsupportedRuleset) {
        let operation: nft_cmp_ops =
            switch comparison {
            case .equal, .any: NFT_CMP_EQ
            case .notEqual: NFT_CMP_NEQ
            case .less: NFT_CMP_LT
            case .lessOrEqual: NFT_CMP_LTE
            case .greater: NFT_CMP_GT
            case .greaterOrEqual: NFT_CMP_GTE
            }
        try add("cmp") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_CMP_SREG), 1)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_CMP_OP), operation.rawValue)
            nftnl_expr_set(expression, UInt16(NFTNL_EXPR_CMP_DATA), value, UInt32(value.count))
        }
    }
}
