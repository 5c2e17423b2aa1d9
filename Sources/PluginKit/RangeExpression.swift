extension Expression {
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
