import CNftables
import Ruleset

extension Statement.Forward: LoweredStatement {
    /// `fwd` (NFTA_FWD_*).
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) {
        guard program.family == .netdev else {
            throw UnsupportedRuleset("fwd in a table of the family \(program.family.rawValue): netdev is allowed")
        }
        try program.immediate(link: link, into: 1)
        if let neighbour {
            let type: DataType = neighbour.family == .ip ? .ipv4Address : .ipv6Address
            try program.immediate(try type.bytes(.text(neighbour.address)), into: 2)
        }
        try program.add("fwd") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_FWD_SREG_DEV), 1)
            guard let neighbour else { return }
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_FWD_SREG_ADDR), 2)
            nftnl_expr_set_u32(
                expression, UInt16(NFTNL_EXPR_FWD_NFPROTO),
                UInt32(neighbour.family == .ip ? NFPROTO_IPV4 : NFPROTO_IPV6))
        }
    }
}
