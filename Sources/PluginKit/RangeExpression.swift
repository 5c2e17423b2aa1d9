extension IPRange {
    /// As a constant of nftables: an address, a network or a range.
    public var expression: Expression {
        if first == last { return .text(first.description) }
        if let prefix { return .prefix(prefix.address.description, prefix.length) }
        return .range(.text(first.description), .text(last.description))
    }
}
