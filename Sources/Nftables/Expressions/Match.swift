import Ruleset

extension RuleProgram {
    /// `match`: compares what was loaded, looks it up in a set, or masks and compares it.
    mutating func match(
        _ left: Expression, _ comparison: Statement.Comparison, _ right: Expression
    ) throws(UnsupportedRuleset) {
        // A set of one is that one: nft does the same.
        if case .set(let items) = right, items.count == 1, case .selector = left {
            return try match(left, comparison, items[0])
        }
        // A prefix of whole bytes is a shorter load, without a mask.
        if case .selector(let selector) = left, case .payload = selector, case .prefix(_, let bits) = right,
            bits > 0, bits % 8 == 0, comparison == .equal || comparison == .notEqual
        {
            let first = try selector.type.interval(right).first
            try require(selector)
            try load(selector, into: 1, length: bits / 8)
            return try compare(comparison, Array(first[..<(bits / 8)]))
        }
        if case .selector(let selector) = left, let field = selector.bitField {
            return try match(selector, field, comparison, right)
        }
        let types = try load(left)
        if case .selector(let selector) = left { note(selector, comparison, right) }
        switch right {
        case .named(let name):
            try lookUp(set: name, id: nil, inverted: try isInverted(comparison, right))
        case .set(let items):
            try lookUp(items, types: types, inverted: try isInverted(comparison, right))
        case .concatenation(let parts) where parts.count == types.count && comparison == .notEqual:
            // What a map holds, against a constant.
            var bytes: [UInt8] = []
            for (part, type) in zip(parts, types) { bytes += type.padded(try type.bytes(part)) }
            try compare(.notEqual, bytes)
        default:
            guard types.count == 1, let type = types.first else {
                throw UnsupportedRuleset("a concatenation is looked up in a set, not compared to \(right.json.line)")
            }
            try matchValue(type, comparison, right)
        }
    }

    /// A field that is some bits of its bytes: they are compared where they stand.
    private mutating func match(
        _ selector: Selector, _ field: HeaderField, _ comparison: Statement.Comparison, _ right: Expression
    ) throws(UnsupportedRuleset) {
        guard comparison == .equal || comparison == .notEqual else {
            throw UnsupportedRuleset(
                "\(comparison.rawValue) with \(Expression.selector(selector).json.line), which can be equal or not")
        }
        if case .named(let name) = right {
            throw UnsupportedRuleset("\(Expression.selector(selector).json.line) in the set \(name): list its values")
        }
        try load(.selector(selector))
        if case .set(let items) = right {
            return try lookUp(
                try items.map { item throws(UnsupportedRuleset) in try field.placed(item) }, types: [field.type],
                inverted: comparison == .notEqual)
        }
        try compare(comparison, try field.type.bytes(try field.placed(right)))
    }

    private mutating func matchValue(
        _ type: DataType, _ comparison: Statement.Comparison, _ right: Expression
    ) throws(UnsupportedRuleset) {
        switch right {
        case .prefix(_, let bits):
            let first = try type.interval(right).first
            _ = try isInverted(comparison, right)
            try bitwise(type, mask: try type.mask(bits))
            try compare(comparison, first)
        case .range(let first, let last):
            let isSwapped = type.byteOrder == .host && type.length > 1
            let ends = isSwapped ? try type.hostInterval(first, last) : try type.interval(right)
            if isSwapped { try swapBytes(type.length) }
            if try isInverted(comparison, right) {
                try outside(ends.first, ends.last)
            } else {
                try compare(.greaterOrEqual, ends.first)
                try compare(.lessOrEqual, ends.last)
            }
        case .text(let name) where type == .interfaceName && name.hasSuffix("*"):
            _ = try isInverted(comparison, right)
            let prefix = Array(name.utf8.dropLast())
            guard !prefix.isEmpty, prefix.count < 15 else { throw UnsupportedRuleset("the interface \"\(name)\"") }
            try compare(comparison, prefix)
        default:
            if comparison == .any {
                guard type.isBitmask else { throw UnsupportedRuleset("\"in\" with \(type.name), which has no bits") }
                try bitwise(type, mask: try type.bytes(right))
                try compare(.notEqual, [UInt8](repeating: 0, count: type.length))
            } else {
                guard comparison != .equal, comparison != .notEqual, type.byteOrder == .host, type.length > 1 else {
                    return try compare(comparison, try type.bytes(right))
                }
                // The kernel compares bytes from the first on.
                try swapBytes(type.length)
                try compare(comparison, try type.bytes(right).reversed())
            }
        }
    }

    private mutating func isInverted(
        _ comparison: Statement.Comparison, _ right: Expression
    ) throws(UnsupportedRuleset) -> Bool {
        switch comparison {
        case .equal, .any: return false
        case .notEqual: return true
        default: throw UnsupportedRuleset("\(comparison.rawValue) with \(right.json.line)")
        }
    }
}
