import Addresses
import CMnl
import Glibc

extension RouteSocket {
    /// Where the kernel would send a packet.
    public enum Way: Sendable, Hashable {
        /// To the box itself.
        case here
        /// Out by a link, to a gateway where there is one.
        case out(Int, via: IPAddress?)
    }

    /// - Parameter input: the index of the link that it came by; nil for one of the box itself.
    /// - Returns: nil when no route leads there.
    public func way(
        to destination: IPAddress, from source: IPAddress? = nil, input: Int? = nil, mark: UInt32 = 0
    ) throws(NetlinkError) -> Way? {
        var body = rtmsg()
        body.rtm_family = UInt8(destination.family.number)
        body.rtm_dst_len = UInt8(8 * destination.family.length)
        if source != nil { body.rtm_src_len = body.rtm_dst_len }
        let message = Message(Int(RTM_GETROUTE), body, about: "the way to \(destination)")
        try message.put(Int(RTA_DST.rawValue), destination.bytes)
        if let source { try message.put(Int(RTA_SRC.rawValue), source.bytes) }
        if let input { try message.put(Int(RTA_IIF.rawValue), UInt32(clamping: input)) }
        if mark != 0 { try message.put(Int(RTA_MARK.rawValue), mark) }
        return try ask(
            message, none: [ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL, EXDEV, EPERM]
        ) { answer in
            guard answer.type == Int(RTM_NEWROUTE) else { return nil }
            let kind = answer.body(rtmsg.self).rtm_type
            if kind == Route.Kind.local.rawValue || kind == Route.Kind.broadcast.rawValue { return Way.here }
            guard kind == Route.Kind.unicast.rawValue else { return nil }
            let attributes = answer.attributes(behind: rtmsg.self)
            return (attributes[Int(RTA_OIF.rawValue)]?.number).map {
                .out($0, via: NextHop.gateway(attributes))
            }
        }
    }
}
