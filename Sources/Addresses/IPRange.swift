/// Addresses of one family, from the first to the last: `192.0.2.10-192.0.2.20`, a network, or one alone.
public struct IPRange: Sendable, Hashable, CustomStringConvertible {
    public let family: IPAddress.Family
    /// The bits of its addresses as numbers.
    public let values: ClosedRange<UInt128>

    /// Nil for ends of two families, for an end before the start, and for a network with bits beyond its length.
    public init?(_ text: String) {
        if text.utf8.contains(UInt8(ascii: "-")) {
            let ends = text.split(separator: "-", omittingEmptySubsequences: false).map(String.init)
            guard ends.count == 2 else { return nil }
            guard let first = IPAddress(ends[0]), let last = IPAddress(ends[1]), first.family == last.family,
                first.value <= last.value
            else { return nil }
            (family, values) = (first.family, first.value...last.value)
            return
        }
        guard let prefix = IPPrefix(text), prefix.isNetwork else { return nil }
        (family, values) = (prefix.family, prefix.address.value...prefix.last.value)
    }

    public init(_ family: IPAddress.Family, _ values: ClosedRange<UInt128>) {
        (self.family, self.values) = (family, values)
    }

    public var first: IPAddress { IPAddress(family, value: values.lowerBound) }
    public var last: IPAddress { IPAddress(family, value: values.upperBound) }

    /// The same as a network, where it is one.
    public var prefix: IPPrefix? {
        let differing = values.lowerBound ^ values.upperBound
        let bits = 128 - differing.leadingZeroBitCount
        guard differing & (differing &+ 1) == 0, values.lowerBound & differing == 0 else { return nil }
        return IPPrefix(first, length: 8 * family.length - bits)
    }

    public var description: String {
        if first == last { return first.description }
        return prefix?.description ?? "\(first)-\(last)"
    }
}

extension [ClosedRange<UInt128>] {
    /// In their order, those that meet or touch as one.
    public static func united(_ ranges: [ClosedRange<UInt128>]) -> Self {
        var result: Self = []
        for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            guard let last = result.last, last.upperBound == .max || range.lowerBound <= last.upperBound + 1 else {
                result.append(range)
                continue
            }
            result[result.count - 1] = last.lowerBound...Swift.max(last.upperBound, range.upperBound)
        }
        return result
    }
}
