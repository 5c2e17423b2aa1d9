import CNftables
import Ruleset

extension Statement.Trace: LoweredStatement {
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) {
        try program.immediate([1], into: 1)
        try program.writeMeta(NFT_META_NFTRACE)
    }
}
