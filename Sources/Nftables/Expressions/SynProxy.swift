import CNftables
import Ruleset

extension RuleProgram {
    /// `synproxy` (NFTA_SYNPROXY_*).
    mutating func synproxy(_ proxy: Statement.SynProxy) throws(UnsupportedRuleset) {
        try add("synproxy") { expression in
            nftnl_expr_set_u16(expression, UInt16(NFTNL_EXPR_SYNPROXY_MSS), UInt16(clamping: proxy.mss))
            nftnl_expr_set_u8(expression, UInt16(NFTNL_EXPR_SYNPROXY_WSCALE), UInt8(clamping: proxy.windowScale))
            // NF_SYNPROXY_OPT_MSS, _WSCALE, _SACK_PERM, _TIMESTAMP
            let flags: UInt32 = 1 | 2 | (proxy.selectiveAcknowledgements ? 4 : 0) | (proxy.timestamps ? 8 : 0)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_SYNPROXY_FLAGS), flags)
        }
    }
}
