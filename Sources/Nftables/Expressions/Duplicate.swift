import CNftables
import Glibc
import Ruleset

extension Statement.Duplicate: LoweredStatement {
    /// `dup` (NFTA_DUP_*).
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) {
        var registers: [(attribute: Int, register: UInt32)] = []
        switch (target, program.family) {
        case (.gateway(let address, let link), .ip), (.gateway(let address, let link), .ip6):
            let type: DataType = program.family == .ip ? .ipv4Address : .ipv6Address
            try program.immediate(try type.bytes(.text(address)), into: 1)
            registers.append((Int(NFTNL_EXPR_DUP_SREG_ADDR), 1))
            guard let link else { break }
            try program.immediate(link: link, into: 2)
            registers.append((Int(NFTNL_EXPR_DUP_SREG_DEV), 2))
        case (.link(let link), .netdev):
            try program.immediate(link: link, into: 1)
            registers.append((Int(NFTNL_EXPR_DUP_SREG_DEV), 1))
        case (.gateway, _):
            throw UnsupportedRuleset(
                "dup to a gateway in a table of the family \(program.family.rawValue): ip and ip6 are allowed")
        case (.link, _):
            throw UnsupportedRuleset(
                "dup to a link in a table of the family \(program.family.rawValue): netdev is allowed")
        }
        try program.add("dup") { expression in
            for (attribute, register) in registers {
                nftnl_expr_set_u32(expression, UInt16(attribute), register)
            }
        }
    }
}

extension RuleProgram {
    /// `immediate`: a link's index, as it is when the rule is made.
    mutating func immediate(link: String, into register: UInt32) throws(UnsupportedRuleset) {
        let index = if_nametoindex(link)
        guard index != 0 else { throw UnsupportedRuleset("the link \(link) is not there") }
        try immediate(withUnsafeBytes(of: index, Array.init), into: register)
    }
}
