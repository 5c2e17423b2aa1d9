import CNftables
import Ruleset

extension RuleProgram {
    /// `ct` (NFTA_CT_*): what connection tracking knows of a packet's connection.
    mutating func connection(_ key: Selector.ConnectionKey, into register: UInt32) throws(UnsupportedRuleset) {
        let number: nft_ct_keys =
            switch key {
            case .state: NFT_CT_STATE
            case .status: NFT_CT_STATUS
            case .mark: NFT_CT_MARK
            }
        try add("ct") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_CT_KEY), number.rawValue)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_CT_DREG), register)
        }
    }

    /// The connection's mark becomes register 1.
    mutating func writeConnectionMark() throws(UnsupportedRuleset) {
        try add("ct") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_CT_KEY), NFT_CT_MARK.rawValue)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_CT_SREG), 1)
        }
    }
}
