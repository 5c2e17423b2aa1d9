/// Of a table: whose packets it sees.
public enum TableFamily: String, Sendable, CaseIterable {
    /// IPv4 and IPv6.
    case inet
    case ip, ip6
    /// All that comes in by a link.
    case netdev
}
