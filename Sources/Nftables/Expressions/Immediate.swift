import CNftables
import Ruleset

extension Verdict {
    /// NF_* and NFT_*, as the kernel has them.
    var code: Int32 {
        switch self {
        case .drop: 0
        case .accept: 1
        case .continue: NFT_CONTINUE.rawValue
        case .jump: NFT_JUMP.rawValue
        case .goto: NFT_GOTO.rawValue
        case .return: NFT_RETURN.rawValue
        }
    }
}

extension RuleProgram {
    /// `immediate` (NFTA_IMMEDIATE_*): a verdict.
    mutating func immediate(_ verdict: Verdict) throws(UnsupportedRuleset) {
        if let chain = verdict.target { try Bounds.check(name: chain) }
        try add("immediate") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_IMM_DREG), Self.verdictRegister)
            nftnl_expr_set_u32(
                expression, UInt16(NFTNL_EXPR_IMM_VERDICT), UInt32(bitPattern: verdict.code))
            if let chain = verdict.target { nftnl_expr_set_str(expression, UInt16(NFTNL_EXPR_IMM_CHAIN), chain) }
        }
    }

    /// `immediate`: a constant in a register.
    mutating func immediate(_ value: [UInt8], into register: UInt32) throws(UnsupportedRuleset) {
        try add("immediate") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_IMM_DREG), register)
            nftnl_expr_set(expression, UInt16(NFTNL_EXPR_IMM_DATA), value, UInt32(value.count))
        }
    }
}
