import CNftables
import Ruleset

extension RuleProgram {
    /// `fib` (NFTA_FIB_*): what the routing table would say.
    mutating func routeLookup(
        _ flags: Set<Selector.FIBFlag>, _ result: Selector.FIBResult, into register: UInt32
    ) throws(UnsupportedRuleset) {
        let order: [(Selector.FIBFlag, nft_fib_flags)] = [
            (.saddr, NFTA_FIB_F_SADDR), (.daddr, NFTA_FIB_F_DADDR), (.mark, NFTA_FIB_F_MARK), (.iif, NFTA_FIB_F_IIF),
            (.oif, NFTA_FIB_F_OIF),
        ]
        var bits = order.reduce(UInt32(0)) { flags.contains($1.0) ? $0 | $1.1.rawValue : $0 }
        if result == .interface { bits |= NFTA_FIB_F_PRESENT.rawValue }
        let number = result == .interface ? NFT_FIB_RESULT_OIF : NFT_FIB_RESULT_ADDRTYPE
        try add("fib") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_FIB_DREG), register)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_FIB_RESULT), number.rawValue)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_FIB_FLAGS), bits)
        }
    }
}
