import CNftables
import Ruleset

extension RuleProgram {
    /// `exthdr` (NFTA_EXTHDR_*): whether the packet has IPv6's header of fragments.
    mutating func fragmentHeader(into register: UInt32) throws(UnsupportedRuleset) {
        try add("exthdr") { expression in
            // IPPROTO_FRAGMENT, NFT_EXTHDR_F_PRESENT
            nftnl_expr_set_u8(expression, UInt16(NFTNL_EXPR_EXTHDR_TYPE), 44)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_EXTHDR_OFFSET), 0)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_EXTHDR_LEN), 1)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_EXTHDR_FLAGS), 1)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_EXTHDR_DREG), register)
        }
    }

    /// `exthdr` of TCP's options: the value, or whether the option is there.
    mutating func tcpOption(
        _ option: TCPOption, _ field: TCPOptionField, into register: UInt32
    ) throws(UnsupportedRuleset) {
        let isPresence = field == .presence
        try add("exthdr") { expression in
            Self.fill(expression, option, offset: isPresence ? 0 : 2, length: isPresence ? 1 : option.length)
            // NFT_EXTHDR_F_PRESENT
            if isPresence { nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_EXTHDR_FLAGS), 1) }
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_EXTHDR_DREG), register)
        }
    }

    /// `exthdr`: register 1 becomes the value of an option that the packet has.
    mutating func writeTCPOption(_ option: TCPOption) throws(UnsupportedRuleset) {
        try add("exthdr") { expression in
            Self.fill(expression, option, offset: 2, length: option.length)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_EXTHDR_SREG), 1)
        }
    }

    private static func fill(_ expression: OpaquePointer, _ option: TCPOption, offset: UInt32, length: Int) {
        nftnl_expr_set_u8(expression, UInt16(NFTNL_EXPR_EXTHDR_TYPE), option.kind)
        nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_EXTHDR_OFFSET), offset)
        nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_EXTHDR_LEN), UInt32(length))
        nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_EXTHDR_OP), NFT_EXTHDR_OP_TCPOPT.rawValue)
    }
}
