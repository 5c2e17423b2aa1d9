import CNftables
import Ruleset

extension Statement.SynProxy: LoweredStatement {
    /// `synproxy` (NFTA_SYNPROXY_*).
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) {
        try program.add("synproxy") { expression in
            nftnl_expr_set_u16(expression, UInt16(NFTNL_EXPR_SYNPROXY_MSS), UInt16(clamping: mss))
            nftnl_expr_set_u8(expression, UInt16(NFTNL_EXPR_SYNPROXY_WSCALE), UInt8(clamping: windowScale))
            // NF_SYNPROXY_OPT_MSS, _WSCALE, _SACK_PERM, _TIMESTAMP
            let flags: UInt32 = 1 | 2 | (selectiveAcknowledgements ? 4 : 0) | (timestamps ? 8 : 0)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_SYNPROXY_FLAGS), flags)
        }
    }
}
