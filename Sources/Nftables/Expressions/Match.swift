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
        if case .selector(let selector) = left, case .payload(let header, let name) = selector,
            let field = HeaderField.find(header, name), let bits = field.bits
        {
            return try match(selector, field, bits, comparison, right)
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
        _ selector: Selector, _ field: HeaderField, _ bits: UInt32, _ comparison: Statement.Comparison,
        _ right: Expression
    ) throws(UnsupportedRuleset) {
        guard comparison == .equal || comparison == .notEqual else {
            throw UnsupportedRuleset(
                "\(comparison.rawValue) with \(Expression.selector(selector).json.line), which can be equal or not")
        }
        let value = try field.type.bytes(right).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        let shifted = value << UInt32(bits.trailingZeroBitCount)
        guard shifted & ~bits == 0 else {
            throw UnsupportedRuleset("\(right.json.line) does not fit \(field.type.name)")
        }
        try load(.selector(selector))
        func bytes(_ number: UInt32) -> [UInt8] {
            (0..<field.type.length).reversed().map { UInt8(truncatingIfNeeded: number >> UInt32(8 * $0)) }
        }
        try bitwise(field.type, mask: bytes(bits))
        try compare(comparison, bytes(shifted))
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
        case .range:
            let ends = try type.interval(right)
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
