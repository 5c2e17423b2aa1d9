import Addresses
import CMnl
import Glibc

/// An address of a link.
public struct InterfaceAddress: Sendable, Hashable {
    /// The link's index.
    public var link: Int
    public var prefix: IPPrefix
    /// Who gave it (IFA_PROTO): 0 when nobody said.
    public var origin: UInt8

    public init(link: Int, prefix: IPPrefix, origin: UInt8 = 0) {
        self.link = link
        self.prefix = prefix
        self.origin = origin
    }

    /// IFA_PROTO, which older headers don't have.
    private static let originAttribute = 11

    init?(_ answer: Answer) {
        guard answer.type == Int(RTM_NEWADDR) else { return nil }
        let body = answer.body(ifaddrmsg.self)
        let attributes = answer.attributes(behind: ifaddrmsg.self)
        // Of a point-to-point link IFA_ADDRESS is the other end.
        guard let address = (attributes[Int(IFA_LOCAL)] ?? attributes[Int(IFA_ADDRESS)])?.address,
            let prefix = IPPrefix(address, length: Int(body.ifa_prefixlen))
        else { return nil }
        link = Int(body.ifa_index)
        self.prefix = prefix
        origin = attributes[Self.originAttribute]?.bytes.first ?? 0
    }

    func message(_ type: Int, flags: Int32) -> Message {
        var body = ifaddrmsg()
        body.ifa_family = UInt8(prefix.family.number)
        body.ifa_prefixlen = UInt8(prefix.length)
        body.ifa_index = UInt32(clamping: link)
        let message = Message(type, flags: flags, body)
        message.put(Int(IFA_LOCAL), prefix.address.bytes)
        message.put(Int(IFA_ADDRESS), prefix.address.bytes)
        if prefix.family == .ipv4, prefix.length < 31 { message.put(Int(IFA_BROADCAST), prefix.last.bytes) }
        // No duplicate address detection for what an operator has decided: a service bound to it must not wait.
        if prefix.family == .ipv6 { message.put(Int(IFA_FLAGS), UInt32(IFA_F_NODAD)) }
        if origin != 0 { message.put(Self.originAttribute, origin) }
        return message
    }
}

extension RouteSocket {
    /// The addresses of all links.
    public func addresses() throws(NetlinkError) -> [InterfaceAddress] {
        try dump({ Message(Int(RTM_GETADDR), ifaddrmsg()) }, "the addresses") { InterfaceAddress($0) }
    }

    /// Adds an address; one that is there already is taken over.
    public func add(_ address: InterfaceAddress) throws(NetlinkError) {
        try change(
            address.message(Int(RTM_NEWADDR), flags: NLM_F_CREATE | NLM_F_REPLACE),
            "the address \(address.prefix) on link \(address.link)")
    }

    public func delete(_ address: InterfaceAddress) throws(NetlinkError) {
        try change(
            address.message(Int(RTM_DELADDR), flags: 0),
            "the end of the address \(address.prefix) on link \(address.link)")
    }
}
