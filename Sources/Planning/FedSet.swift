import PluginKit

/// The members of a set that come from a feed, as the kernel takes them.
public struct FedSet: Sendable {
    /// From the first value to the last: addresses, or a hardware address as a number.
    public struct Member: Sendable, Hashable {
        public var values: ClosedRange<UInt128>
        /// In seconds since 1970; nil for good.
        public var until: Int?
    }

    /// In their order, and apart from each other.
    public let members: [Member]
    private let type: DataType
    /// When members end, in their order.
    private let ends: [Int]
    /// The same for the same members.
    public let version: Int

    /// - Parameters:
    ///   - members: of a feed, whatever they are; those that a key of `type` can't be are others' business.
    ///   - version: a number that no other content has.
    public init(_ members: [FeedMember], type: DataType, version: Int) {
        (self.version, self.type) = (version, type)
        let made: [Member]
        switch type {
        case .etherAddress:
            var ends: [UInt128: Int] = [:]
            for member in members {
                guard case .mac(let mac) = member.what else { continue }
                let number = mac.bytes.reduce(UInt128(0)) { $0 << 8 | UInt128($1) }
                ends[number] = max(ends[number] ?? 0, member.until ?? .max)
            }
            made = ends.sorted { $0.key < $1.key }.map {
                Member(values: $0.key...$0.key, until: $0.value == .max ? nil : $0.value)
            }
        case .ipv4Address: made = Self.apart(members, .ipv4)
        case .ipv6Address: made = Self.apart(members, .ipv6)
        default: made = []
        }
        (self.members, ends) = (made, made.compactMap(\.until).sorted())
    }

    /// Whether members end by themselves.
    public var isPassing: Bool { !ends.isEmpty }

    /// Whether one has ended after a time, and by another.
    public func hasEnds(after start: Int, by end: Int) -> Bool {
        ends.contains { $0 > start && $0 <= end }
    }

    /// A member as nft has it.
    public func key(of member: Member) -> Expression {
        switch type {
        case .ipv4Address: IPRange(.ipv4, member.values).expression
        case .ipv6Address: IPRange(.ipv6, member.values).expression
        default:
            .text(
                MACAddress(
                    (0..<6).reversed().map { UInt8(truncatingIfNeeded: member.values.lowerBound >> UInt128(8 * $0)) })?
                    .description ?? "")
        }
    }

    /// What came and what went since another content of the same set.
    public func difference(from old: FedSet?) -> (gone: [Member], come: [Member]) {
        var (gone, come): ([Member], [Member]) = ([], [])
        let before = old?.members ?? []
        var (i, j) = (0, 0)
        while i < before.count || j < members.count {
            if i < before.count, j < members.count, before[i] == members[j] {
                i += 1
                j += 1
            } else if j == members.count
                || i < before.count && before[i].values.lowerBound <= members[j].values.lowerBound
            {
                gone.append(before[i])
                i += 1
            } else {
                come.append(members[j])
                j += 1
            }
        }
        return (gone, come)
    }

    /// The kernel takes no two intervals that meet: what two members have in common stays as long as the longer of them.
    private static func apart(_ members: [FeedMember], _ family: IPAddress.Family) -> [Member] {
        var (lasting, passing): ([ClosedRange<UInt128>], [(range: ClosedRange<UInt128>, until: Int)]) = ([], [])
        for member in members {
            guard case .addresses(let range) = member.what, range.family == family else { continue }
            if let until = member.until { passing.append((range.values, until)) } else { lasting.append(range.values) }
        }
        var taken = [ClosedRange<UInt128>].united(lasting)
        var result = taken.map { Member(values: $0, until: nil) }
        if passing.isEmpty { return result }
        for (range, until) in passing.sorted(by: { ($1.until, $0.range.lowerBound) < ($0.until, $1.range.lowerBound) })
        {
            for gap in gaps(in: range, beside: taken) {
                result.append(Member(values: gap, until: until))
                let place = firstIndex(from: gap.lowerBound, of: taken)
                taken.insert(gap, at: place)
            }
        }
        return result.sorted { $0.values.lowerBound < $1.values.lowerBound }
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
