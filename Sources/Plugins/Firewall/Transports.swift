/// IP protocols by their numbers (IANA).
enum Transports {
    static let numbers: [String: Int] = [
        "icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58, "sctp": 132,
    ]

    /// Those with ports.
    static let withPorts: Set<Int> = [6, 17, 132]

    private static let names = Dictionary(numbers.map { ($1, $0) }) { one, _ in one }

    /// As nftables writes it.
    static func name(of number: Int) -> String {
        number == 58 ? "ipv6-icmp" : names[number] ?? "\(number)"
    }
}
