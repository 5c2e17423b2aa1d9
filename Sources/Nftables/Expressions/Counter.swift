import CNftables
import Ruleset

extension RuleProgram {
    /// `objref` (NFTA_OBJREF_*): counts with a named counter.
    mutating func counter(_ name: String) throws(UnsupportedRuleset) {
        try object(name, UInt32(NFT_OBJECT_COUNTER))
    }

    /// The same with a named object of any kind.
    mutating func object(_ name: String, _ kind: UInt32) throws(UnsupportedRuleset) {
        try Bounds.check(name: name)
        try add("objref") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_OBJREF_IMM_TYPE), kind)
            nftnl_expr_set_str(expression, UInt16(NFTNL_EXPR_OBJREF_IMM_NAME), name)
        }
    }
}
