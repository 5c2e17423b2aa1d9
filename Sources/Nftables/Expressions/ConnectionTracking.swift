import CNftables
import Ruleset

extension RuleProgram {
    /// `ct` (NFTA_CT_*): what connection tracking knows of a packet's connection.
    mutating func connection(_ key: Selector.ConnectionKey, into register: UInt32) throws(UnsupportedRuleset) {
        let number: nft_ct_keys =
            switch key {
            case .state: NFT_CT_STATE
            case .status: NFT_CT_STATUS
            case .mark: NFT_CT_MARK
            case .direction: NFT_CT_DIRECTION
            case .expiration: NFT_CT_EXPIRATION
            }
        try add("ct") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_CT_KEY), number.rawValue)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_CT_DREG), register)
        }
    }

    /// The same of one of its directions.
    mutating func connection(
        _ direction: Selector.Direction, _ field: Selector.TupleField, into register: UInt32
    ) throws(UnsupportedRuleset) {
        // The keys for one family each are macros of the header, or not known to it.
        let number: UInt32 =
            switch field {
            case .source4: 19
            case .destination4: 20
            case .source6: 21
            case .destination6: 22
            case .sourcePort: NFT_CT_PROTO_SRC.rawValue
            case .port: NFT_CT_PROTO_DST.rawValue
            }
        try add("ct") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_CT_KEY), number)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_CT_DREG), register)
            nftnl_expr_set_u8(expression, UInt16(NFTNL_EXPR_CT_DIR), direction.number)
        }
    }

    /// What a connection has for each of its directions, or of both together.
    mutating func connection(
        _ key: nft_ct_keys, _ direction: Selector.Direction?, into register: UInt32
    ) throws(UnsupportedRuleset) {
        try add("ct") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_CT_KEY), key.rawValue)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_CT_DREG), register)
            if let direction { nftnl_expr_set_u8(expression, UInt16(NFTNL_EXPR_CT_DIR), direction.number) }
        }
    }

    /// Register 1 becomes the connection's mark or zone.
    mutating func writeConnection(
        _ key: nft_ct_keys, _ direction: Selector.Direction? = nil
    ) throws(UnsupportedRuleset) {
        try add("ct") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_CT_KEY), key.rawValue)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_CT_SREG), 1)
            if let direction { nftnl_expr_set_u8(expression, UInt16(NFTNL_EXPR_CT_DIR), direction.number) }
        }
    }
}

extension Selector.Direction {
    /// IP_CT_DIR_*
    fileprivate var number: UInt8 { self == .original ? 0 : 1 }
}
