extension Expression {
    /// A port, or a range of ports.
    public static func ports(_ range: ClosedRange<some BinaryInteger>) -> Expression {
        let (first, last) = (Int(range.lowerBound), Int(range.upperBound))
        return first == last ? .number(first) : .range(.number(first), .number(last))
    }

    /// Any of these addresses of a family; nil where none is of it. The kernel takes no member of a set twice.
    public static func any(of ranges: [IPRange], _ family: IPAddress.Family) -> Expression? {
        let apart = [ClosedRange<UInt128>].united(ranges.filter { $0.family == family }.map(\.values)).map {
            IPRange(family, $0).expression
        }
        return apart.count > 1 ? .set(apart) : apart.first
    }

    /// An address, a network or a range, as people write it.
    public var words: String {
        switch self {
        case .text(let text): text
        case .prefix(let address, let length): "\(address)/\(length)"
        case .range(let first, let last): "\(first.words)-\(last.words)"
        default: json.line
        }
    }
}

extension IPRange {
    /// As a constant of nftables: an address, a network or a range.
    public var expression: Expression {
        if first == last { return .text(first.description) }
        if let prefix { return .prefix(prefix.address.description, prefix.length) }
        return .range(.text(first.description), .text(last.description))
    }
}
