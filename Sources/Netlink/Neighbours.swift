import Addresses
import CMnl
import Glibc

/// Another host on a link's network, as the kernel knows it.
public struct Neighbour: Sendable, Hashable {
    public var address: IPAddress
    public var link: Int
    /// Nil until the kernel has resolved it.
    public var mac: MACAddress?
    /// It has answered within the last seconds (NUD_REACHABLE of linux/neighbour.h).
    public var isReachable: Bool

    init?(_ answer: Answer) {
        guard answer.type == Int(RTM_NEWNEIGH) else { return nil }
        let body = answer.body(ndmsg.self)
        let attributes = answer.attributes(behind: ndmsg.self)
        guard let address = attributes[Int(NDA_DST)]?.address else { return nil }
        self.address = address
        mac = attributes[Int(NDA_LLADDR)].flatMap { MACAddress($0.bytes) }
        link = Int(body.ndm_ifindex)
        isReachable = body.ndm_state & UInt16(NUD_REACHABLE) != 0
    }
}

extension RouteSocket {
    /// The neighbours on all links.
    public func neighbours() throws(NetlinkError) -> [Neighbour] {
        try dump(Message(Int(RTM_GETNEIGH), ndmsg(), about: "the neighbours")) { Neighbour($0) }
    }
}
