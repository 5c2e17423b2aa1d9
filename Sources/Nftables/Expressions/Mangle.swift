import CNftables
import Ruleset

extension Statement.Mangle: LoweredStatement {
    func lower(into program: inout RuleProgram) throws(UnsupportedRuleset) {
        switch target {
        case .meta(.mark):
            try program.load(mark: value)
            try program.writeMeta(NFT_META_MARK)
        case .ct(.mark):
            try program.load(mark: value)
            try program.writeConnection(NFT_CT_MARK)
        case .meta(.priority):
            try program.load(value, as: .trafficClass)
            try program.writeMeta(NFT_META_PRIORITY)
        case .zone(let direction):
            guard value.isConstantOrMap else { throw UnsupportedRuleset("\(value.json.line) as a zone") }
            try program.load(value, as: target.type)
            try program.writeConnection(NFT_CT_ZONE, direction)
        case .tcpOption(let option, .value):
            if case .selector(.routeMTU) = value {
                try program.load(value)
                try program.swapBytes(option.length)
            } else {
                try program.load(value, as: target.type)
            }
            try program.writeTCPOption(option)
        default:
            guard let field = target.bitField else { throw UnsupportedRuleset("writing \(target)") }
            try program.require(target)
            try program.write(field, value)
        }
    }
}

extension Expression {
    fileprivate var isConstantOrMap: Bool {
        switch self {
        case .number, .text, .map, .valueMap: true
        default: false
        }
    }
}

extension RuleProgram {
    /// Loads what becomes a mark.
    fileprivate mutating func load(mark value: Expression) throws(UnsupportedRuleset) {
        let type = DataType.mark
        guard let fold = Self.fold(value) else {
            switch value {
            case .number, .map, .valueMap, .jhash, .numgen: return try load(value, as: type)
            default: throw UnsupportedRuleset("\(value.json.line) as a mark's value")
            }
        }
        try load(.selector(fold.selector))
        guard fold.mask != .max || fold.xor != 0 else { return }
        try bitwise(type, mask: try type.bytes(.number(Int(fold.mask))), xor: try type.bytes(.number(Int(fold.xor))))
    }

    /// Ands and ors of a mark with constants, as one mask and one xor; nil for anything else.
    private static func fold(_ value: Expression) -> (selector: Selector, mask: UInt32, xor: UInt32)? {
        switch value {
        case .selector(let selector) where selector.type == .mark: return (selector, .max, 0)
        case .and(let inner, .number(let number)):
            guard let (selector, mask, xor) = fold(inner) else { return nil }
            let bits = UInt32(truncatingIfNeeded: number)
            return (selector, mask & bits, xor & bits)
        case .or(let inner, .number(let number)):
            guard let (selector, mask, xor) = fold(inner) else { return nil }
            let bits = UInt32(truncatingIfNeeded: number)
            return (selector, mask & ~bits, xor & ~bits | bits)
        default: return nil
        }
    }

    /// Writes a field that is some bits of its bytes: the others are read and written back.
    fileprivate mutating func write(_ field: HeaderField, _ value: Expression) throws(UnsupportedRuleset) {
        guard case .number(let number) = try field.placed(value), let bits = field.bits else {
            throw UnsupportedRuleset("\(value.json.line) is no constant of \(field.type.name)")
        }
        // Checksums are updated by 16 bits at an even offset.
        let missing = Int(field.offset) % 2
        let offset = field.offset - UInt32(missing)
        let length = (field.type.length + missing + 1) / 2 * 2
        let behind = UInt32(8 * (length - missing - field.type.length))
        let type = DataType.integer(length)
        try payload(base: field.base, offset: offset, length: length, into: 1)
        try bitwise(
            type,
            mask: try type.bytes(.number(Int(~(bits << behind) & UInt32(truncatingIfNeeded: 1 << (8 * length) - 1)))),
            xor: try type.bytes(.number(number << Int(behind))))
        try writePayload(base: field.base, offset: offset, length: length, checksum: field.checksum)
    }
}
