import CNftables
import Ruleset

extension RuleProgram {
    /// `hash` (NFTA_HASH_*): Jenkins' hash of the registers from the second on, into register 1.
    mutating func load(_ hash: JHash) throws(UnsupportedRuleset) -> DataType {
        // As nft allocates them: the result's register first.
        let types = try load(hash.key, afterWords: 4)
        let length = types.count == 1 ? types[0].length : types.reduce(0) { $0 + $1.paddedLength }
        try add("hash") { expression in
            func u32(_ attribute: Int, _ value: UInt32) { nftnl_expr_set_u32(expression, UInt16(attribute), value) }
            u32(Int(NFTNL_EXPR_HASH_SREG), 2)
            u32(Int(NFTNL_EXPR_HASH_DREG), 1)
            u32(Int(NFTNL_EXPR_HASH_LEN), UInt32(length))
            u32(Int(NFTNL_EXPR_HASH_MODULUS), UInt32(clamping: hash.modulus))
            if let seed = hash.seed { u32(Int(NFTNL_EXPR_HASH_SEED), UInt32(clamping: seed)) }
            u32(Int(NFTNL_EXPR_HASH_OFFSET), UInt32(clamping: hash.offset))
            u32(Int(NFTNL_EXPR_HASH_TYPE), NFT_HASH_JENKINS.rawValue)
        }
        return .hostInteger(4)
    }
}
