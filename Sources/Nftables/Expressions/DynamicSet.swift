import CNftables
import Ruleset

extension RuleProgram {
    /// `dynset` (NFTA_DYNSET_*): a packet puts its own key into a set, or key and values into a map.
    mutating func element(
        _ operation: Statement.SetOperation, _ key: Expression, data: Expression? = nil, set: String,
        timeout: Int? = nil, each: Statement.Each? = nil
    ) throws(UnsupportedRuleset) {
        try Bounds.check(name: set)
        let words = try load(key).reduce(0) { $0 + $1.paddedLength / 4 }
        if let data { try load(data, afterWords: words) }
        let number: nft_dynset_ops =
            switch operation {
            case .add: NFT_DYNSET_OP_ADD
            case .update: NFT_DYNSET_OP_UPDATE
            case .delete: NFT_DYNSET_OP_DELETE
            }
        let kept = try each.map { (each) throws(UnsupportedRuleset) in try each.expression() }
        try add("dynset") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_DYNSET_SREG_KEY), 1)
            if data != nil {
                nftnl_expr_set_u32(
                    expression, UInt16(NFTNL_EXPR_DYNSET_SREG_DATA), Self.register(afterWords: words))
            }
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_DYNSET_OP), number.rawValue)
            nftnl_expr_set_str(expression, UInt16(NFTNL_EXPR_DYNSET_SET_NAME), set)
            if let timeout {
                nftnl_expr_set_u64(expression, UInt16(NFTNL_EXPR_DYNSET_TIMEOUT), UInt64(timeout) * 1000)
            }
            // It belongs to the instruction from then on.
            if let kept { nftnl_expr_set(expression, UInt16(NFTNL_EXPR_DYNSET_EXPR), UnsafeRawPointer(kept), 0) }
        }
    }
}
