import CNftables
import Ruleset

extension Statement.ElementUpdate: LoweredStatement {
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) {
        try program.element(operation, key, set: set, timeout: timeout, each: each)
    }
}

extension Statement.Each {
    /// What is kept for each key, as an expression of its own.
    func expression() throws(UnsupportedRuleset) -> OpaquePointer {
        let name =
            switch self {
            case .limit: "limit"
            case .connections: "connlimit"
            }
        guard let expression = nftnl_expr_alloc(name) else {
            throw UnsupportedRuleset("libnftnl does not know the expression \(name)")
        }
        switch self {
        case .limit(let limit): limit.fill(expression)
        case .connections(let count):
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_CONNLIMIT_COUNT), UInt32(clamping: count))
            // NFT_CONNLIMIT_F_INV
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_CONNLIMIT_FLAGS), 1)
        }
        return expression
    }
}
