import CNftables
import Ruleset

extension Rule {
    /// The kernel's expressions of this rule, as `nft --debug=netlink` writes them: what a kernel without one of them
    /// cannot list.
    func instructions(in family: TableFamily) throws(UnsupportedRuleset) -> [String] {
        guard let object = nftnl_rule_alloc() else { throw UnsupportedRuleset("no memory is left") }
        defer { nftnl_rule_free(object) }
        var program = RuleProgram(
            rule: object, family: family,
            makeSet: { (set: NamedSet) throws(UnsupportedRuleset) -> (name: String, id: UInt32) in (set.name, 1) },
            contents: { _ in nil })
        for statement in statements { try program.add(statement) }
        guard let iterator = nftnl_expr_iter_create(object) else { throw UnsupportedRuleset("no memory is left") }
        defer { nftnl_expr_iter_destroy(iterator) }
        var lines: [String] = []
        while let expression = nftnl_expr_iter_next(iterator) {
            var buffer = [CChar](repeating: 0, count: 4096)
            nftnl_expr_snprintf(&buffer, buffer.count, expression, UInt32(NFTNL_OUTPUT_DEFAULT.rawValue), 0)
            let text = buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
            let name = String(cString: nftnl_expr_get_str(expression, UInt16(NFTNL_EXPR_NAME)))
            // libnftnl puts a blank behind each word.
            let words = String(decoding: text, as: UTF8.self).split(separator: " ")
            lines.append(([name[...]] + words).joined(separator: " "))
        }
        return lines
    }
}
