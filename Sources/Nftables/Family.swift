import CNftables
import Ruleset

extension TableFamily {
    /// NFPROTO_*.
    var number: UInt32 {
        switch self {
        case .inet: UInt32(NFPROTO_INET)
        case .ip: UInt32(NFPROTO_IPV4)
        case .ip6: UInt32(NFPROTO_IPV6)
        case .netdev: UInt32(NFPROTO_NETDEV)
        }
    }
}
