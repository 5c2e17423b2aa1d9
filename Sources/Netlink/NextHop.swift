import Addresses
import CMnl

/// One path of a route: where its packets leave to.
public struct NextHop: Sendable, Hashable {
    /// Of the route's family, or IPv6 for an IPv4 route (RTA_VIA); nil on a network without a
    /// gateway.
    public var gateway: IPAddress?
    /// The index of the link that packets leave by.
    public var link: Int?
    /// The share of the flows among several paths: 1 through 256.
    public var weight: Int
    /// The gateway is on the link although no connected network contains it (RTNH_F_ONLINK).
    public var isOnLink: Bool

    public init(via gateway: IPAddress? = nil, link: Int? = nil, weight: Int = 1, onLink: Bool = false) {
        self.gateway = gateway
        self.link = link
        self.weight = weight
        isOnLink = onLink
    }

    /// RTNH_F_ONLINK of linux/rtnetlink.h.
    static let onLink: UInt32 = 4

    /// The path in the form in which the kernel reports it: `onlink` needs a gateway.
    var normalForm: NextHop {
        NextHop(
            via: gateway, link: link, weight: min(max(weight, 1), 256), onLink: isOnLink && gateway != nil)
    }

    /// The gateway of the attributes of a route or of one of its paths.
    static func gateway(_ attributes: [Int: Attribute]) -> IPAddress? {
        if let gateway = attributes[Int(RTA_GATEWAY.rawValue)]?.address { return gateway }
        // struct rtvia: the family in 16 bits, then the address.
        return attributes[Int(RTA_VIA.rawValue)].flatMap { IPAddress($0.bytes.dropFirst(2)) }
    }

    /// The attribute that carries a gateway in a route of `family`.
    static func attribute(_ gateway: IPAddress, family: IPAddress.Family) -> LinkAttribute {
        if gateway.family == family { return .init(Int(RTA_GATEWAY.rawValue), .bytes(gateway.bytes)) }
        let number = UInt16(gateway.family.number)
        return .init(Int(RTA_VIA.rawValue), .bytes(withUnsafeBytes(of: number) { Array($0) } + gateway.bytes))
    }

    /// The paths of an RTA_MULTIPATH: `struct rtnexthop` with attributes behind each.
    static func decode(_ multipath: Attribute) -> [NextHop] {
        let headLength = MemoryLayout<rtnexthop>.size
        var hops: [NextHop] = []
        var rest = multipath.bytes[...]
        while rest.count >= headLength {
            let head = rest.withUnsafeBytes { $0.loadUnaligned(as: rtnexthop.self) }
            let length = Int(head.rtnh_len)
            guard length >= headLength, length <= rest.count else { break }
            hops.append(
                Array(rest.prefix(length).dropFirst(headLength)).withUnsafeBytes { buffer in
                    let end = buffer.baseAddress.map { $0 + buffer.count }
                    let attributes = AttributeSequence(from: buffer.baseAddress, to: end).byType
                    return NextHop(
                        via: gateway(attributes), link: Int(head.rtnh_ifindex), weight: Int(head.rtnh_hops) + 1,
                        onLink: UInt32(head.rtnh_flags) & onLink != 0)
                })
            rest = rest.dropFirst((length + 3) & ~3)
        }
        return hops
    }

    /// The payload of an RTA_MULTIPATH.
    static func encode(_ hops: [NextHop], family: IPAddress.Family) -> [UInt8] {
        hops.flatMap { hop -> [UInt8] in
            let attributes = LinkAttribute.encode(hop.gateway.map { [attribute($0, family: family)] } ?? [])
            var head = rtnexthop()
            head.rtnh_len = UInt16(clamping: MemoryLayout<rtnexthop>.size + attributes.count)
            head.rtnh_flags = hop.isOnLink ? UInt8(onLink) : 0
            head.rtnh_hops = UInt8(clamping: hop.weight - 1)
            head.rtnh_ifindex = Int32(clamping: hop.link ?? 0)
            return withUnsafeBytes(of: head) { Array($0) } + attributes
        }
    }
}
