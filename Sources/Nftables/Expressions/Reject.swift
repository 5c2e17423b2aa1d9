import CNftables
import Ruleset

extension RuleProgram {
    /// `reject` (NFTA_REJECT_*): an answer that says no.
    mutating func reject(_ rejection: Statement.Rejection) throws(UnsupportedRuleset) {
        let type: nft_reject_types
        var code: UInt8 = 0
        switch rejection {
        case .tcpReset:
            try requireTransport(6)
            type = NFT_REJECT_TCP_RST
        case .icmpx(let name):
            type = NFT_REJECT_ICMPX_UNREACH
            guard let number = Statement.Rejection.codes[name] else {
                throw UnsupportedRuleset("the icmpx code \(name)")
            }
            code = UInt8(truncatingIfNeeded: number)
        }
        try add("reject") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_REJECT_TYPE), type.rawValue)
            nftnl_expr_set_u8(expression, UInt16(NFTNL_EXPR_REJECT_CODE), code)
        }
    }
}
