import Ruleset

/// Fields that are some bits of their bytes, such as DSCP, which in IPv6 lies across two.
extension HeaderField {
    /// A number in the field's bytes.
    func bytes(of number: UInt32) -> [UInt8] {
        (0..<type.length).reversed().map { UInt8(truncatingIfNeeded: number >> UInt32(8 * $0)) }
    }

    /// A constant, shifted to where the field's bits are.
    func placed(_ constant: Expression) throws(UnsupportedRuleset) -> Expression {
        let bits = bits ?? .max
        let value = try type.bytes(constant).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        let shifted = value << UInt32(bits.trailingZeroBitCount)
        guard shifted & ~bits == 0, shifted >> UInt32(bits.trailingZeroBitCount) == value else {
            throw UnsupportedRuleset(
                "\(constant.json.line) does not fit \(type.name): 0 to \(bits >> UInt32(bits.trailingZeroBitCount))")
        }
        return .number(Int(shifted))
    }
}

extension Selector {
    /// Its field, when that is some bits only.
    var bitField: HeaderField? {
        guard case .payload(let header, let name) = self, let field = HeaderField.find(header, name), field.bits != nil
        else { return nil }
        return field
    }
}

extension Expression {
    /// The keys of a look-up by this one, as they are in the set.
    func placed(_ keys: [Expression]) throws(UnsupportedRuleset) -> [Expression] {
        guard case .selector(let selector) = self, let field = selector.bitField else { return keys }
        return try keys.map { key throws(UnsupportedRuleset) in try field.placed(key) }
    }
}
