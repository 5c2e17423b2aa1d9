import CNftables
import Ruleset

extension RuleProgram {
    /// `payload` (NFTA_PAYLOAD_*): bytes of a header.
    mutating func payload(_ field: HeaderField, length: Int, into register: UInt32) throws(UnsupportedRuleset) {
        try payload(base: field.base, offset: field.offset, length: length, into: register)
    }

    mutating func payload(
        base: UInt32, offset: UInt32, length: Int, into register: UInt32
    ) throws(UnsupportedRuleset) {
        try add("payload") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_PAYLOAD_DREG), register)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_PAYLOAD_BASE), base)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_PAYLOAD_OFFSET), offset)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_PAYLOAD_LEN), UInt32(length))
        }
    }

    /// `payload`: register 1 becomes the bytes.
    ///
    /// - Parameter checksum: the offset of the header's own checksum, which the kernel updates; nil for none.
    mutating func writePayload(
        base: UInt32, offset: UInt32, length: Int, checksum: UInt32?
    ) throws(UnsupportedRuleset) {
        try add("payload") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_PAYLOAD_SREG), 1)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_PAYLOAD_BASE), base)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_PAYLOAD_OFFSET), offset)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_PAYLOAD_LEN), UInt32(length))
            if let checksum {
                nftnl_expr_set_u32(
                    expression, UInt16(NFTNL_EXPR_PAYLOAD_CSUM_TYPE), NFT_PAYLOAD_CSUM_INET.rawValue)
                nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_PAYLOAD_CSUM_OFFSET), checksum)
            }
        }
    }
}
