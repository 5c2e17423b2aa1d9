import CNftables
import Ruleset

extension Statement.Queue: LoweredStatement {
    /// `queue` (NFTA_QUEUE_*): by number, or by what is in register 1.
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) {
        // NFT_QUEUE_FLAG_BYPASS, _CPU_FANOUT
        let bits: UInt16 = (flags.contains(.bypass) ? 1 : 0) | (flags.contains(.fanout) ? 2 : 0)
        let ends: (first: UInt16, count: UInt16)?
        switch number {
        case .number(let number):
            ends = (UInt16(clamping: number), 1)
        case .range(.number(let first), .number(let last)) where first < last:
            ends = (UInt16(clamping: first), UInt16(clamping: last - first + 1))
        default:
            try program.load(number, as: .hostInteger(2))
            ends = nil
        }
        try program.add("queue") { expression in
            if let ends {
                nftnl_expr_set_u16(expression, UInt16(NFTNL_EXPR_QUEUE_NUM), ends.first)
                nftnl_expr_set_u16(expression, UInt16(NFTNL_EXPR_QUEUE_TOTAL), ends.count)
            } else {
                nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_QUEUE_SREG_QNUM), 1)
            }
            if bits != 0 { nftnl_expr_set_u16(expression, UInt16(NFTNL_EXPR_QUEUE_FLAGS), bits) }
        }
    }
}
