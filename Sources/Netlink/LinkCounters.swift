import CMnl
import Glibc

/// What a link has received and sent since it was made (`struct rtnl_link_stats64` of
/// linux/if_link.h).
public struct LinkCounters: Sendable, Hashable {
    public var receivedPackets: UInt64
    public var sentPackets: UInt64
    public var receivedBytes: UInt64
    public var sentBytes: UInt64
    public var receiveErrors: UInt64
    public var sendErrors: UInt64
    public var receiveDrops: UInt64
    public var sendDrops: UInt64
}

extension RouteSocket {
    /// The counters of all links, by index.
    public func linkCounters() throws(NetlinkError) -> [Int: LinkCounters] {
        let message = Message(Int(RTM_GETLINK), ifinfomsg(), about: "the links' counters")
        let all = try dump(message) { answer -> (Int, LinkCounters)? in
            guard answer.type == Int(RTM_NEWLINK),
                let bytes = answer.attributes(behind: ifinfomsg.self)[Int(IFLA_STATS64)]?.bytes,
                bytes.count >= MemoryLayout<rtnl_link_stats64>.size
            else { return nil }
            let counted = bytes.withUnsafeBytes { $0.loadUnaligned(as: rtnl_link_stats64.self) }
            return (
                Int(answer.body(ifinfomsg.self).ifi_index),
                LinkCounters(
                    receivedPackets: counted.rx_packets, sentPackets: counted.tx_packets,
                    receivedBytes: counted.rx_bytes, sentBytes: counted.tx_bytes, receiveErrors: counted.rx_errors,
                    sendErrors: counted.tx_errors, receiveDrops: counted.rx_dropped, sendDrops: counted.tx_dropped)
            )
        }
        return Dictionary(all) { $1 }
    }
}
