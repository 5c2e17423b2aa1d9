import CNftables
import Ruleset

extension Statement.TransparentProxy: LoweredStatement {
    /// `tproxy` (NFTA_TPROXY_*): address and port from registers.
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) {
        guard program.context.transport != nil || program.context.hasPorts else {
            throw UnsupportedRuleset("tproxy needs a match of tcp or udp before it")
        }
        let network: UInt8? = family.map { $0 == .ip ? 2 : 10 }
        if let network, let settled = program.context.network, settled != network {
            throw UnsupportedRuleset("tproxy to \(family?.rawValue ?? "") in a rule of the other family")
        }
        var next: UInt32 = 1
        if let address {
            let type: DataType = family == .ip ? .ipv4Address : .ipv6Address
            try program.immediate(try type.bytes(.text(address)), into: next)
            next += 1
        }
        if let port { try program.immediate(try DataType.service.bytes(.number(port)), into: next) }
        try program.add("tproxy") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_TPROXY_FAMILY), UInt32(network ?? 0))
            if address != nil { nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_TPROXY_REG_ADDR), 1) }
            if port != nil { nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_TPROXY_REG_PORT), next) }
        }
    }
}
