import CNftables
import Ruleset

extension Statement.Rejection: LoweredStatement {
    /// `reject` (NFTA_REJECT_*): an answer that says no.
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) {
        let type: nft_reject_types
        var code: UInt8 = 0
        switch self {
        case .tcpReset:
            try program.requireTransport(6)
            type = NFT_REJECT_TCP_RST
        case .icmpx(let name):
            type = NFT_REJECT_ICMPX_UNREACH
            guard let number = Self.codes[name] else { throw UnsupportedRuleset("the icmpx code \(name)") }
            code = UInt8(truncatingIfNeeded: number)
        }
        try program.add("reject") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_REJECT_TYPE), type.rawValue)
            nftnl_expr_set_u8(expression, UInt16(NFTNL_EXPR_REJECT_CODE), code)
        }
    }
}
