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

    /// Marks the packet as one to be traced.
    mutating func trace() throws(UnsupportedRuleset) {
        try immediate([1], into: 1)
        try add("meta") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_META_KEY), NFT_META_NFTRACE.rawValue)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_META_SREG), 1)
        }
    }

    /// Writes a mark: of the packet, or of its connection.
    mutating func setMark(_ selector: Selector, _ value: Expression) throws(UnsupportedRuleset) {
        let type = DataType.mark
        if let fold = try Self.fold(value) {
            try load(.selector(fold.selector))
            if fold.mask != .max || fold.xor != 0 {
                try bitwise(
                    type, mask: try type.bytes(.number(Int(fold.mask))), xor: try type.bytes(.number(Int(fold.xor))))
            }
        } else {
            try immediate(try type.bytes(value), into: 1)
        }
        if selector == .ct(.mark) { return try writeConnectionMark() }
        try add("meta") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_META_KEY), NFT_META_MARK.rawValue)
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_META_SREG), 1)
        }
    }

    /// Ands and ors of a mark with constants, as one mask and one xor; nil for a constant.
    private static func fold(
        _ value: Expression
    ) throws(UnsupportedRuleset) -> (selector: Selector, mask: UInt32, xor: UInt32)? {
        switch value {
        case .selector(let selector) where selector.type == .mark: return (selector, .max, 0)
        case .and(let inner, .number(let number)):
            guard let (selector, mask, xor) = try fold(inner) else { break }
            let bits = UInt32(truncatingIfNeeded: number)
            return (selector, mask & bits, xor & bits)
        case .or(let inner, .number(let number)):
            guard let (selector, mask, xor) = try fold(inner) else { break }
            let bits = UInt32(truncatingIfNeeded: number)
            return (selector, mask & ~bits, xor & ~bits | bits)
        case .number: return nil
        default: break
        }
        throw UnsupportedRuleset("\(value.json.line) as a mark's value")
    }
}
