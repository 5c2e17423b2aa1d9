import CNftables
import Ruleset

extension RuleProgram {
    /// `lookup` (NFTA_LOOKUP_*): goes on when register 1 is in the set; with a destination, what the map holds for it.
    mutating func lookUp(
        set name: String, id: UInt32?, destination: UInt32? = nil, inverted: Bool = false
    ) throws(UnsupportedRuleset) {
        try Bounds.check(name: name)
        try add("lookup") { expression in
            nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_LOOKUP_SREG), 1)
            if let destination { nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_LOOKUP_DREG), destination) }
            nftnl_expr_set_str(expression, UInt16(NFTNL_EXPR_LOOKUP_SET), name)
            if let id { nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_LOOKUP_SET_ID), id) }
            if inverted {
                nftnl_expr_set_u32(expression, UInt16(NFTNL_EXPR_LOOKUP_FLAGS), UInt32(NFT_LOOKUP_F_INV.rawValue))
            }
        }
    }

    /// Looks what was loaded up in a set without a name.
    mutating func lookUp(_ items: [Expression], types: [DataType], inverted: Bool) throws(UnsupportedRuleset) {
        let set = try makeSet(
            NamedSet("__set%d", key: types, flags: .needed(for: items), elements: items.map { SetElement($0) }))
        try lookUp(set: set.name, id: set.id, inverted: inverted)
    }

    /// Loads a key and goes where a map without a name leads.
    mutating func lookUp(_ key: Expression, verdicts: [VerdictMapEntry]) throws(UnsupportedRuleset) {
        let types = try load(key)
        let keys = try key.placed(verdicts.map(\.key))
        let map = try makeSet(
            NamedSet(
                "__map%d", key: types, content: .verdicts, flags: .needed(for: keys),
                elements: zip(keys, verdicts).map { SetElement($0, verdict: $1.verdict) }))
        try lookUp(set: map.name, id: map.id, destination: Self.verdictRegister)
    }

    /// Loads a key, and into register 1 what a map without a name has for it.
    mutating func lookUp(
        _ key: Expression, values: [ValueMapEntry], _ type: DataType
    ) throws(UnsupportedRuleset) {
        let types = try load(key)
        let keys = try key.placed(values.map(\.key))
        let map = try makeSet(
            NamedSet(
                "__map%d", key: types, content: .values([type]), flags: .needed(for: keys),
                elements: zip(keys, values).map { SetElement($0, .data($1.value)) }))
        try lookUp(set: map.name, id: map.id, destination: 1)
    }
}

extension Set<NamedSet.Flag> {
    /// The flags of a set without a name with these members.
    fileprivate static func needed(for items: [Expression]) -> Self {
        func isInterval(_ item: Expression) -> Bool {
            switch item {
            case .prefix, .range: true
            case .concatenation(let parts): parts.contains(where: isInterval)
            default: false
            }
        }
        return items.contains(where: isInterval) ? [.constant, .interval] : [.constant]
    }
}
