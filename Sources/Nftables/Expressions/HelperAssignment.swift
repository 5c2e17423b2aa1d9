import CNftables
import Ruleset

extension Statement.HelperAssignment: LoweredStatement {
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) {
        try program.object(helper, UInt32(NFT_OBJECT_CT_HELPER))
    }
}
