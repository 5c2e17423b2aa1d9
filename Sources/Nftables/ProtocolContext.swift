import Ruleset

/// What earlier matches of a rule have settled of a packet's protocols, so that nothing is asked twice.
struct ProtocolContext {
    /// NFPROTO_*: 2 for IPv4, 10 for IPv6.
    var network: UInt8?
    /// IPPROTO_*.
    var transport: UInt8?
    /// Some transport protocols with ports were asked for.
    var hasPorts = false
    /// It came over Ethernet.
    var isEthernet = false

    init(_ family: TableFamily) {
        switch family {
        case .ip: network = 2
        case .ip6: network = 10
        case .inet, .netdev: break
        }
    }
}

extension RuleProgram {
    /// Makes sure that the packet has the header which a selector reads.
    mutating func require(_ selector: Selector) throws(UnsupportedRuleset) {
        if selector == .isFragment { return try requireNetwork(10) }
        guard case .payload(let header, _) = selector else { return }
        switch header {
        case .ether: try requireEthernet()
        case .ip: try requireNetwork(2)
        case .ip6: try requireNetwork(10)
        case .tcp: try requireTransport(6)
        case .udp: try requireTransport(17)
        case .sctp: try requireTransport(132)
        case .th:
            guard context.transport != nil || context.hasPorts else {
                throw UnsupportedRuleset("th needs a match of meta l4proto before it")
            }
        case .icmp:
            try requireNetwork(2)
            try requireTransport(1)
        case .icmpv6:
            try requireNetwork(10)
            try requireTransport(58)
        }
    }

    private mutating func requireEthernet() throws(UnsupportedRuleset) {
        if context.isEthernet { return }
        context.isEthernet = true
        try metaLinkType(into: 1)
        try compare(.equal, [1, 0])
    }

    mutating func requireNetwork(_ number: UInt8) throws(UnsupportedRuleset) {
        if context.network == number { return }
        guard context.network == nil else { throw UnsupportedRuleset("IPv4 and IPv6 in one rule") }
        guard family != .netdev else { throw UnsupportedRuleset("a match of IP's headers in a table of netdev") }
        context.network = number
        try meta(.nfproto, into: 1)
        try compare(.equal, [number])
    }

    mutating func requireTransport(_ number: UInt8) throws(UnsupportedRuleset) {
        if context.transport == number { return }
        guard context.transport == nil else { throw UnsupportedRuleset("two transport protocols in one rule") }
        context.transport = number
        try meta(.l4proto, into: 1)
        try compare(.equal, [number])
    }

    /// Notes what a match says of the protocols.
    mutating func note(_ selector: Selector, _ comparison: Statement.Comparison, _ right: Expression) {
        guard comparison == .equal else { return }
        switch selector {
        case .meta(.nfproto): context.network = (try? selector.type.bytes(right))?.first
        case .meta(.l4proto), .payload(.ip, "protocol"), .payload(.ip6, "nexthdr"):
            if let number = (try? selector.type.bytes(right))?.first {
                context.transport = number
            } else {
                context.hasPorts = true
            }
        default: break
        }
    }
}
