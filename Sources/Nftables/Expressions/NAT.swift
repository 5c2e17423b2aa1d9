import CNftables
import Ruleset

extension Statement.NAT: LoweredStatement {
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) {
        try program.nat(kind, family, address: address, port: port, flags: flags)
    }
}

extension RuleProgram {
    /// `nat` (NFTA_NAT_*): another source or destination, from constants in registers.
    fileprivate mutating func nat(
        _ kind: Statement.NATKind, _ family: Statement.Family, address: Expression?, port: Expression?,
        flags: Set<Statement.NATFlag>
    ) throws(UnsupportedRuleset) {
        guard address != nil || port != nil else { throw UnsupportedRuleset("\(kind.rawValue) to nothing") }
        if port != nil, context.transport == nil, !context.hasPorts {
            throw UnsupportedRuleset("\(kind.rawValue) to a port needs a match of tcp or udp before it")
        }
        let network = UInt32(family == .ip ? NFPROTO_IPV4 : NFPROTO_IPV6)
        if case .map(let key, let name)? = address, port == nil {
            return try nat(kind, network, family == .ip ? .ipv4Address : .ipv6Address, key, name, flags)
        }
        if let address, address.isComputed {
            guard port == nil else { throw UnsupportedRuleset("\(kind.rawValue) to \(address.json.line) with a port") }
            return try nat(kind, network, family == .ip ? .ipv4Address : .ipv6Address, address, flags)
        }
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
            let bits = Self.bits(flags, hasPort: port != nil)
            if bits != 0 { nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_NAT_FLAGS), bits) }
        }
    }

    /// NF_NAT_RANGE_PROTO_SPECIFIED, _PERSISTENT and _NETMAP
    private static func bits(_ flags: Set<Statement.NATFlag>, hasPort: Bool) -> UInt32 {
        (hasPort ? 2 : 0) | (flags.contains(.persistent) ? 8 : 0) | (flags.contains(.netmap) ? 0x40 : 0)
    }

    /// To what a map of addresses with ports holds for a key.
    private mutating func nat(
        _ kind: Statement.NATKind, _ family: UInt32, _ type: DataType, _ key: Expression, _ name: String,
        _ flags: Set<Statement.NATFlag>
    ) throws(UnsupportedRuleset) {
        guard let content = contents(name) else {
            throw UnsupportedRuleset("\(kind.rawValue) to a map that is not there")
        }
        try requireNetwork(UInt8(family))
        try load(key)
        try lookUp(set: name, id: nil, destination: 1)
        let (types, isRange): ([DataType], Bool)
        switch content {
        case .values(let found): (types, isRange) = (found, false)
        case .ranges(let found): (types, isRange) = (found, true)
        default: throw UnsupportedRuleset("\(kind.rawValue) to the map \(name), which holds no addresses")
        }
        guard types.first == type, types.count == 1 || types.count == 2 && types[1] == .service else {
            throw UnsupportedRuleset("\(kind.rawValue) to the map \(name), which holds other than addresses and ports")
        }
        let (address, hasPort) = (type.paddedLength / 4, types.count == 2)
        let range = address + (hasPort ? 1 : 0)
        try add("nat") { expression in
            func u32(_ attribute: Int, _ value: UInt32) { nftnl_expr_set_u32(expression, UInt16(attribute), value) }
            u32(Int(NFTNL_EXPR_NAT_TYPE), kind == .snat ? NFT_NAT_SNAT.rawValue : NFT_NAT_DNAT.rawValue)
            u32(Int(NFTNL_EXPR_NAT_FAMILY), family)
            u32(Int(NFTNL_EXPR_NAT_REG_ADDR_MIN), 1)
            if isRange { u32(Int(NFTNL_EXPR_NAT_REG_ADDR_MAX), Self.register(afterWords: range)) }
            if hasPort {
                u32(Int(NFTNL_EXPR_NAT_REG_PROTO_MIN), Self.register(afterWords: address))
                if isRange { u32(Int(NFTNL_EXPR_NAT_REG_PROTO_MAX), Self.register(afterWords: range + address)) }
            }
            let bits = Self.bits(flags, hasPort: hasPort)
            if bits != 0 { u32(Int(NFTNL_EXPR_NAT_FLAGS), bits) }
        }
    }

    /// To what a map without a name has for a key.
    private mutating func nat(
        _ kind: Statement.NATKind, _ family: UInt32, _ type: DataType, _ address: Expression,
        _ flags: Set<Statement.NATFlag>
    ) throws(UnsupportedRuleset) {
        try load(address, as: type)
        try add("nat") { expression in
            func u32(_ attribute: Int, _ value: UInt32) { nftnl_expr_set_u32(expression, UInt16(attribute), value) }
            u32(Int(NFTNL_EXPR_NAT_TYPE), kind == .snat ? NFT_NAT_SNAT.rawValue : NFT_NAT_DNAT.rawValue)
            u32(Int(NFTNL_EXPR_NAT_FAMILY), family)
            u32(Int(NFTNL_EXPR_NAT_REG_ADDR_MIN), 1)
            let bits = Self.bits(flags, hasPort: false)
            if bits != 0 { u32(Int(NFTNL_EXPR_NAT_FLAGS), bits) }
        }
    }
}

extension Expression {
    fileprivate var isComputed: Bool { if case .valueMap = self { true } else { false } }
}
