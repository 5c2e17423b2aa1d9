import PluginKit

/// The members of a set that come from a feed, as the kernel takes them.
public struct FedSet: Sendable {
    public struct Member: Sendable, Hashable {
        public var key: Expression
        /// In seconds since 1970; nil for good.
        public var until: Int?
    }

    public let members: [Member]
    /// The same for the same members.
    public let version: Int

    /// - Parameters:
    ///   - members: of a feed, whatever they are; those that a key of `type` can't be are others' business.
    ///   - version: a number that no other content has.
    public init(_ members: [FeedMember], type: DataType, version: Int) {
        self.version = version
        switch type {
        case .etherAddress:
            var ends: [MACAddress: Int] = [:]
            for member in members {
                if case .mac(let mac) = member.what { ends[mac] = max(ends[mac] ?? 0, member.until ?? .max) }
            }
            self.members = ends.map {
                Member(key: .text($0.key.description), until: $0.value == .max ? nil : $0.value)
            }.sorted { "\($0.key)" < "\($1.key)" }
        case .ipv4Address: self.members = Self.apart(members, .ipv4)
        case .ipv6Address: self.members = Self.apart(members, .ipv6)
        default: self.members = []
        }
    }

    /// The kernel takes no two intervals that meet: what two members have in common stays as long as the longer of them.
    private static func apart(_ members: [FeedMember], _ family: IPAddress.Family) -> [Member] {
        var (lasting, passing): ([ClosedRange<UInt128>], [(range: ClosedRange<UInt128>, until: Int)]) = ([], [])
        for member in members {
            guard case .addresses(let range) = member.what, range.family == family else { continue }
            if let until = member.until { passing.append((range.values, until)) } else { lasting.append(range.values) }
        }
        var taken = [ClosedRange<UInt128>].united(lasting)
        var result = taken.map { Member(key: IPRange(family, $0).expression, until: nil) }
        for (range, until) in passing.sorted(by: { ($1.until, $0.range.lowerBound) < ($0.until, $1.range.lowerBound) })
        {
            for gap in gaps(in: range, beside: taken) {
                result.append(Member(key: IPRange(family, gap).expression, until: until))
                let place = firstIndex(from: gap.lowerBound, of: taken)
                taken.insert(gap, at: place)
            }
        }
        return result
    }

    /// The first of some ranges, in their order, that doesn't end before a value.
    private static func firstIndex(from value: UInt128, of ranges: [ClosedRange<UInt128>]) -> Int {
        var (low, high) = (0, ranges.count)
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].upperBound < value { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// What of a range none of some others, in their order, has.
    private static func gaps(
        in range: ClosedRange<UInt128>, beside others: [ClosedRange<UInt128>]
    ) -> [ClosedRange<UInt128>] {
        var result: [ClosedRange<UInt128>] = []
        var start = range.lowerBound
        var index = firstIndex(from: start, of: others)
        while index < others.count, others[index].lowerBound <= range.upperBound {
            if others[index].lowerBound > start { result.append(start...others[index].lowerBound - 1) }
            if others[index].upperBound >= range.upperBound { return result }
            start = others[index].upperBound + 1
            index += 1
        }
        return result + [start...range.upperBound]
    }
}
