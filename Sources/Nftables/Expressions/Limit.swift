import CNftables
import Ruleset

extension Statement.Limit: LoweredStatement {
    /// `limit` (NFTA_LIMIT_*): a token bucket of packets or bytes.
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) { try program.add("limit", fill) }

    func fill(_ expression: OpaquePointer) {
        nftnl_expr_set_u64(expression, UInt16(NFTNL_EXPR_LIMIT_RATE), UInt64(rate))
        nftnl_expr_set_u64(expression, UInt16(NFTNL_EXPR_LIMIT_UNIT), per.seconds)
        nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_LIMIT_BURST), UInt32(clamping: burst))
        let type = measure == .packets ? NFT_LIMIT_PKTS : NFT_LIMIT_PKT_BYTES
        nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_LIMIT_TYPE), type.rawValue)
        nftnl_expr_set_u32(
            expression, UInt16(NFTNL_EXPR_LIMIT_FLAGS), isOver ? UInt32(NFT_LIMIT_F_INV.rawValue) : 0)
    }
}
