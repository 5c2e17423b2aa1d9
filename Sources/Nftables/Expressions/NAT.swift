import CNftables
import Ruleset

extension RuleProgram {
    /// `masq` (NFTA_MASQ_*): the source becomes the outgoing interface's address.
    mutating func masquerade() throws(UnsupportedRuleset) { try add("masq") { _ in } }

    /// `nat` (NFTA_NAT_*): another source or destination, from constants in registers.
    mutating func nat(
        _ kind: Statement.NATKind, _ family: Statement.Family, address: Expression?, port: Expression?,
        flags: Set<Statement.NATFlag>
    ) throws(UnsupportedRuleset) {
        guard address != nil || port != nil else { throw UnsupportedRuleset("\(kind.rawValue) to nothing") }
        if port != nil, context.transport == nil, !context.hasPorts {
            throw UnsupportedRuleset("\(kind.rawValue) to a port needs a match of tcp or udp before it")
        }
        let network = UInt32(family == .ip ? NFPROTO_IPV4 : NFPROTO_IPV6)
        if let settled = context.network, UInt32(settled) != network {
            throw UnsupportedRuleset("\(kind.rawValue) to \(family.rawValue) in a rule of the other family")
        }
        var register: UInt32 = 1
        var registers: [(attribute: Int, register: UInt32)] = []
        func put(_ value: [UInt8], _ attribute: Int) throws(UnsupportedRuleset) {
            try immediate(value, into: register)
            registers.append((attribute, register))
            register += 1
        }
        for (value, type, first, last) in [
            (
                address, family == .ip ? DataType.ipv4Address : .ipv6Address, NFTNL_EXPR_NAT_REG_ADDR_MIN,
                NFTNL_EXPR_NAT_REG_ADDR_MAX
            ),
            (port, DataType.service, NFTNL_EXPR_NAT_REG_PROTO_MIN, NFTNL_EXPR_NAT_REG_PROTO_MAX),
        ] {
            guard let value else { continue }
            let ends = try type.interval(value)
            try put(ends.first, Int(first))
            if ends.first != ends.last { try put(ends.last, Int(last)) }
        }
        try add("nat") { expression in
            nftnl_expr_set_u32(
                expression, UInt16(NFTNL_EXPR_NAT_TYPE), kind == .snat ? NFT_NAT_SNAT.rawValue : NFT_NAT_DNAT.rawValue)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_NAT_FAMILY), network)
            for (attribute, register) in registers {
                nftnl_expr_set_u32(expression, UInt16(attribute), register)
            }
            // NF_NAT_RANGE_PROTO_SPECIFIED, _PERSISTENT and _NETMAP
            let bits: UInt32 =
                (port != nil ? 2 : 0) | (flags.contains(.persistent) ? 8 : 0) | (flags.contains(.netmap) ? 0x40 : 0)
            if bits != 0 { nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_NAT_FLAGS), bits) }
        }
    }
}
