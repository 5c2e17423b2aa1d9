import PluginKit

/// IP protocols by their names, as nftables has them.
enum Transports {
    /// Those that a rule names so; others are numbers.
    static let names = ["ah", "esp", "gre", "icmp", "igmp", "sctp", "tcp", "udp"]

    /// Those with ports.
    static let withPorts: Set<Int> = [6, 17, 132]

    /// IANA's number.
    static func number(of name: String) -> Int? { DataType.protocolNumber.symbols[name].map { Int($0) } ?? Int(name) }

    /// As nftables writes it.
    static func name(of number: Int) -> String { byNumber[number] ?? "\(number)" }

    private static let byNumber: [Int: String] = Dictionary(
        (names + ["ipv6-icmp"]).compactMap { name in number(of: name).map { ($0, name) } }
    ) { first, _ in first }
}
