import CNftables
import Ruleset

extension RuleProgram {
    /// `meta` (NFTA_META_*): what the kernel knows of a packet beside its bytes.
    mutating func meta(_ key: Selector.Meta, into register: UInt32) throws(UnsupportedRuleset) {
        let number: nft_meta_keys =
            switch key {
            case .interface: NFT_META_IIFNAME
            case .outputInterface: NFT_META_OIFNAME
            case .l4proto: NFT_META_L4PROTO
            case .nfproto: NFT_META_NFPROTO
            case .mark: NFT_META_MARK
            case .pkttype: NFT_META_PKTTYPE
            case .priority: NFT_META_PRIORITY
            }
        try meta(number, into: register)
    }

    /// The kind of the link that a packet came over, an ARPHRD_* of two bytes.
    mutating func metaLinkType(into register: UInt32) throws(UnsupportedRuleset) {
        // NFT_META_IIFTYPE, a macro of the header.
        try meta(nft_meta_keys(8), into: register)
    }

    private mutating func meta(_ key: nft_meta_keys, into register: UInt32) throws(UnsupportedRuleset) {
        try add("meta") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_META_KEY), key.rawValue)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_META_DREG), register)
        }
    }

    /// Register 1 becomes what the kernel knows of the packet.
    mutating func writeMeta(_ key: nft_meta_keys) throws(UnsupportedRuleset) {
        try add("meta") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_META_KEY), key.rawValue)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_META_SREG), 1)
        }
    }
}
