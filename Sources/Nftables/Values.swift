import Glibc
import Ruleset

/// Constants as the kernel takes them.
extension DataType {
    /// The bytes of a constant, in the type's own order.
    func bytes(_ value: Expression) throws(UnsupportedRuleset) -> [UInt8] {
        switch value {
        case .number(let number) where self == .time:
            guard number >= 0, number <= Int(UInt32.max) / 1000 else {
                throw UnsupportedRuleset("\(number) seconds do not fit \(name)")
            }
            return bytes(UInt64(number * 1000))
        case .number(let number):
            guard number >= 0, length >= 8 || UInt64(number) < 1 << UInt64(8 * length) else {
                throw UnsupportedRuleset("\(number) does not fit \(name)")
            }
            return bytes(UInt64(number))
        case .text(let text): return try bytes(text)
        case .list(let items) where isBitmask:
            var all = [UInt8](repeating: 0, count: length)
            for item in items {
                for (i, byte) in try bytes(item).enumerated() { all[i] |= byte }
            }
            return all
        case .or(let first, let second) where isBitmask: return try bytes(.list([first, second]))
        default: throw UnsupportedRuleset("\(value.json.line) is no constant of \(name)")
        }
    }

    private func bytes(_ number: UInt64) -> [UInt8] {
        let little = (0..<length).map { $0 < 8 ? UInt8(truncatingIfNeeded: number >> UInt64(8 * $0)) : 0 }
        return byteOrder == .big ? little.reversed() : little
    }

    private func bytes(_ text: String) throws(UnsupportedRuleset) -> [UInt8] {
        let wrong = UnsupportedRuleset(
            "\"\(text)\" is no \(name)"
                + (symbols.isEmpty ? "" : "; names are \(symbols.keys.sorted().joined(separator: ", "))"))
        switch self {
        case .ipv4Address, .ipv6Address:
            var result = [UInt8](repeating: 0, count: length)
            guard inet_pton(self == .ipv4Address ? AF_INET : AF_INET6, text, &result) == 1 else { throw wrong }
            return result
        case .etherAddress:
            let groups = text.split(separator: ":", omittingEmptySubsequences: false)
            let bytes = groups.compactMap { $0.utf8.count <= 2 ? UInt8($0, radix: 16) : nil }
            guard groups.count == 6, bytes.count == 6 else { throw wrong }
            return bytes
        case .interfaceName:
            let name = Array(text.utf8)
            guard !name.isEmpty, name.count < length, name.last != UInt8(ascii: "*") else { throw wrong }
            return name + [UInt8](repeating: 0, count: length - name.count)
        case .trafficClass where text.contains(":"):
            let parts = text.split(separator: ":", omittingEmptySubsequences: false).map {
                $0.utf8.count <= 4 ? UInt16($0, radix: 16) : nil
            }
            guard parts.count == 2, let major = parts[0], let minor = parts[1] else { throw wrong }
            return bytes(UInt64(major) << 16 | UInt64(minor))
        default:
            guard let number = symbols[text] ?? UInt64(text) else { throw wrong }
            return try bytes(.number(Int(clamping: number)))
        }
    }

    /// The bytes, filled up to whole registers.
    func padded(_ bytes: [UInt8]) -> [UInt8] { bytes + [UInt8](repeating: 0, count: paddedLength - bytes.count) }

    /// The first and the last value of a constant, a prefix or a range.
    func interval(_ value: Expression) throws(UnsupportedRuleset) -> (first: [UInt8], last: [UInt8]) {
        switch value {
        case .prefix(let address, let bits):
            let address = try bytes(.text(address))
            let mask = try self.mask(bits)
            guard zip(address, mask).allSatisfy({ $0 & ~$1 == 0 }) else {
                throw UnsupportedRuleset("\(value.json.line) has bits beyond its length")
            }
            return (address, zip(address, mask).map { $0 | ~$1 })
        case .range(let first, let last):
            let ends = (first: try bytes(first), last: try bytes(last))
            guard byteOrder == .big || length == 1 else {
                throw UnsupportedRuleset("a range of \(name), whose values are in the host's order")
            }
            guard !ends.last.lexicographicallyPrecedes(ends.first) else {
                throw UnsupportedRuleset("\(value.json.line) ends before it begins")
            }
            return ends
        default:
            let bytes = try bytes(value)
            return (bytes, bytes)
        }
    }

    /// The ends of a range of numbers in the host's order, as the kernel compares them: from their highest byte on.
    func hostInterval(_ first: Expression, _ last: Expression) throws(UnsupportedRuleset) -> (
        first: [UInt8], last: [UInt8]
    ) {
        guard self == .mark || self == .hostInteger(length) else {
            throw UnsupportedRuleset("a range of \(name), whose values are in the host's order")
        }
        let ends = (first: Array(try bytes(first).reversed()), last: Array(try bytes(last).reversed()))
        guard !ends.last.lexicographicallyPrecedes(ends.first) else {
            throw UnsupportedRuleset("\(Expression.range(first, last).json.line) ends before it begins")
        }
        return ends
    }

    /// The mask of the first `bits` bits.
    func mask(_ bits: Int) throws(UnsupportedRuleset) -> [UInt8] {
        guard bits >= 0, bits <= 8 * length, byteOrder == .big else {
            throw UnsupportedRuleset("a prefix of \(bits) bits of \(name)")
        }
        return (0..<length).map { i in
            let here = min(8, max(0, bits - 8 * i))
            return here == 0 ? 0 : 0xFF << UInt8(8 - here)
        }
    }
}

/// The value after `bytes`, taken as a number in big-endian order; nil after the last.
func successor(of bytes: [UInt8]) -> [UInt8]? {
    var next = bytes
    for i in next.indices.reversed() {
        next[i] &+= 1
        if next[i] != 0 { return next }
    }
    return nil
}
