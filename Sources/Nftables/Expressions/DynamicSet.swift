import CNftables
import Ruleset

extension RuleProgram {
    /// `dynset` (NFTA_DYNSET_*): a packet puts its own key into a set.
    mutating func element(
        _ operation: Statement.SetOperation, _ key: Expression, set: String, timeout: Int?
    ) throws(UnsupportedRuleset) {
        try Bounds.check(name: set)
        try load(key)
        let number: nft_dynset_ops =
            switch operation {
            case .add: NFT_DYNSET_OP_ADD
            case .update: NFT_DYNSET_OP_UPDATE
            case .delete: NFT_DYNSET_OP_DELETE
            }
        try add("dynset") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_DYNSET_SREG_KEY), 1)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_DYNSET_OP), number.rawValue)
            nftnl_expr_set_str(expression, UInt16(NFTNL_EXPR_DYNSET_SET_NAME), set)
            if let timeout {
                nftnl_expr_set_u64(expression, UInt16(NFTNL_EXPR_DYNSET_TIMEOUT), UInt64(timeout) * 1000)
            }
        }
    }
}
