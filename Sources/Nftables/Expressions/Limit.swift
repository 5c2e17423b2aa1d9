import CNftables
import Ruleset

extension RuleProgram {
    /// `limit` (NFTA_LIMIT_*): a token bucket of packets or bytes.
    mutating func limit(_ limit: Statement.Limit) throws(UnsupportedRuleset) {
        try add("limit") { Self.fill($0, limit) }
    }

    static func fill(_ expression: OpaquePointer, _ limit: Statement.Limit) {
        nftnl_expr_set_u64(expression, UInt16(NFTNL_EXPR_LIMIT_RATE), UInt64(limit.rate))
        nftnl_expr_set_u64(expression, UInt16(NFTNL_EXPR_LIMIT_UNIT), limit.per.seconds)
        nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_LIMIT_BURST), UInt32(clamping: limit.burst))
        let type = limit.measure == .packets ? NFT_LIMIT_PKTS : NFT_LIMIT_PKT_BYTES
        nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_LIMIT_TYPE), type.rawValue)
        nftnl_expr_set_u32(
            expression, UInt16(NFTNL_EXPR_LIMIT_FLAGS), limit.isOver ? UInt32(NFT_LIMIT_F_INV.rawValue) : 0)
    }
}
