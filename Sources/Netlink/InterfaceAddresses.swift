import Addresses
import CMnl
import Glibc

/// An address of a link (RTM_NEWADDR, rtnetlink(7), ip-address(8)).
public struct InterfaceAddress: Sendable, Hashable {
    /// The link's index.
    public var link: Int
    /// The address, and the length of its network; with `peer` the length counts for the peer.
    public var prefix: IPPrefix
    /// The other end of a point-to-point link; nil when there is none.
    public var peer: IPAddress?
    /// Which program added it (IFA_PROTO): 0 when it did not say.
    public var origin: UInt8
    /// Makes no route to the network (IFA_F_NOPREFIXROUTE).
    public var hasNoPrefixRoute: Bool
    /// Waits until no neighbour has proved to use it, in IPv6: without this it has IFA_F_NODAD.
    public var detectsDuplicates: Bool
    /// Seconds until the kernel removes it; nil for never. Of a dump: those that are left.
    public var validLifetime: Int?
    /// Seconds until it is used for no new connections, at most `validLifetime`; nil for never. Of
    /// a dump: those that are left.
    public var preferredLifetime: Int?

    public init(
        link: Int, prefix: IPPrefix, origin: UInt8 = 0, peer: IPAddress? = nil, hasNoPrefixRoute: Bool = false,
        detectsDuplicates: Bool = false, validLifetime: Int? = nil, preferredLifetime: Int? = nil
    ) {
        self.link = link
        self.prefix = prefix
        self.origin = origin
        self.peer = peer
        self.hasNoPrefixRoute = hasNoPrefixRoute
        self.detectsDuplicates = detectsDuplicates
        self.validLifetime = validLifetime
        self.preferredLifetime = preferredLifetime
    }

    /// IFA_PROTO, which older headers lack.
    private static let originAttribute = 11
    /// INFINITY_LIFE_TIME of include/net/addrconf.h.
    private static let forever = UInt32.max

    init?(_ answer: Answer) {
        guard answer.type == Int(RTM_NEWADDR) else { return nil }
        let body = answer.body(ifaddrmsg.self)
        let attributes = answer.attributes(behind: ifaddrmsg.self)
        // Of a point-to-point link IFA_ADDRESS is the other end.
        let (own, other) = (attributes[Int(IFA_LOCAL)]?.address, attributes[Int(IFA_ADDRESS)]?.address)
        guard let address = own ?? other, let prefix = IPPrefix(address, length: Int(body.ifa_prefixlen))
        else { return nil }
        link = Int(body.ifa_index)
        self.prefix = prefix
        peer = other == address ? nil : other
        origin = attributes[Self.originAttribute]?.bytes.first ?? 0
        let flags = attributes[Int(IFA_FLAGS)].map { UInt32(truncatingIfNeeded: $0.number) } ?? UInt32(body.ifa_flags)
        hasNoPrefixRoute = flags & UInt32(IFA_F_NOPREFIXROUTE) != 0
        detectsDuplicates = prefix.family == .ipv6 && flags & UInt32(IFA_F_NODAD) == 0
        func seconds(_ number: UInt32) -> Int? { number == Self.forever ? nil : Int(number) }
        if let bytes = attributes[Int(IFA_CACHEINFO)]?.bytes, bytes.count >= MemoryLayout<ifa_cacheinfo>.size {
            let times = bytes.withUnsafeBytes { $0.loadUnaligned(as: ifa_cacheinfo.self) }
            validLifetime = seconds(times.ifa_valid)
            preferredLifetime = seconds(times.ifa_prefered)
        }
        // Of one that is never removed IPv4 keeps no more of the preferred lifetime than its end.
        if validLifetime == nil, flags & UInt32(IFA_F_DEPRECATED) != 0 { preferredLifetime = 0 }
    }

    /// The address in the form in which the kernel reports it after it was added: equal to what
    /// `addresses()` reads, but for the seconds that went by (`agrees(with:within:)`).
    ///
    /// - A peer that is the address itself is none.
    /// - Duplicates are detected in IPv6 alone.
    /// - The preferred lifetime is at most the valid one, neither more than 2^32 - 2 seconds. IPv4
    ///   keeps no preferred lifetime but 0 where the valid one has no end (`set_ifa_lifetime` of
    ///   net/ipv4/devinet.c).
    public var normalForm: InterfaceAddress {
        var address = self
        if peer == prefix.address { address.peer = nil }
        if prefix.family == .ipv4 { address.detectsDuplicates = false }
        address.validLifetime = Self.bounded(validLifetime)
        address.preferredLifetime = Self.bounded(preferredLifetime)
        if let valid = address.validLifetime {
            address.preferredLifetime = min(address.preferredLifetime ?? valid, valid)
        } else if prefix.family == .ipv4, let preferred = address.preferredLifetime, preferred > 0 {
            address.preferredLifetime = nil
        }
        return address
    }

    private static func bounded(_ seconds: Int?) -> Int? { seconds.map { min(max($0, 0), Int(forever) - 1) } }

    /// True when a dump shows what is wanted: equal normal forms, and lifetimes that differ by no
    /// more than `seconds`, since they count down.
    public func agrees(with present: InterfaceAddress, within seconds: Int) -> Bool {
        func isNear(_ left: Int?, _ right: Int?) -> Bool {
            guard let left, let right else { return left == right }
            return abs(left - right) <= seconds
        }
        let wanted = normalForm
        var (ours, theirs) = (wanted, present.normalForm)
        guard isNear(ours.validLifetime, theirs.validLifetime),
            isNear(ours.preferredLifetime, theirs.preferredLifetime)
        else { return false }
        ours.validLifetime = nil
        ours.preferredLifetime = nil
        theirs.validLifetime = nil
        theirs.preferredLifetime = nil
        return ours == theirs
    }

    func message(_ type: Int, flags: Int32) throws(NetlinkError) -> Message {
        var body = ifaddrmsg()
        body.ifa_family = UInt8(prefix.family.number)
        body.ifa_prefixlen = UInt8(prefix.length)
        body.ifa_index = UInt32(clamping: link)
        let subject = "the address \(prefix) on link \(link)"
        let isDeletion = type == Int(RTM_DELADDR)
        let message = Message(type, flags: flags, body, about: isDeletion ? "the removal of \(subject)" : subject)
        try message.put(Int(IFA_LOCAL), prefix.address.bytes)
        try message.put(Int(IFA_ADDRESS), (peer ?? prefix.address).bytes)
        if prefix.family == .ipv4, prefix.length < 31, peer == nil {
            try message.put(Int(IFA_BROADCAST), prefix.last.bytes)
        }
        var options: UInt32 = 0
        // Without duplicate address detection a service bound to the address need not wait.
        if prefix.family == .ipv6, !detectsDuplicates { options |= UInt32(IFA_F_NODAD) }
        if hasNoPrefixRoute { options |= UInt32(IFA_F_NOPREFIXROUTE) }
        if options != 0 { try message.put(Int(IFA_FLAGS), options) }
        if validLifetime != nil || preferredLifetime != nil {
            var times = ifa_cacheinfo()
            times.ifa_valid = validLifetime.map { UInt32(clamping: $0) } ?? Self.forever
            times.ifa_prefered = preferredLifetime.map { UInt32(clamping: $0) } ?? Self.forever
            try message.put(Int(IFA_CACHEINFO), withUnsafeBytes(of: times) { Array($0) })
        }
        if origin != 0 { try message.put(Self.originAttribute, origin) }
        return message
    }
}

extension RouteSocket {
    /// The addresses of all links, or of one.
    ///
    /// - Parameter link: the index of a link; nil for all. The kernel throws ENODEV for one that is
    ///   gone.
    public func addresses(of link: Int? = nil) throws(NetlinkError) -> [InterfaceAddress] {
        var body = ifaddrmsg()
        body.ifa_index = UInt32(clamping: link ?? 0)
        return try dump(Message(Int(RTM_GETADDR), body, about: "the addresses")) { answer in
            InterfaceAddress(answer).flatMap { link == nil || $0.link == link ? $0 : nil }
        }
    }

    /// Adds an address; of one that exists the lifetimes and the origin are replaced.
    ///
    /// A change of `hasNoPrefixRoute` or `peer` needs a removal first, and in IPv6 any change of an
    /// address with a peer: else IPv4 ignores it, and IPv6 leaves routes to the old networks. A
    /// valid lifetime of 0 is refused (EINVAL).
    public func add(_ address: InterfaceAddress) throws(NetlinkError) {
        try change(address.normalForm.message(Int(RTM_NEWADDR), flags: NLM_F_CREATE | NLM_F_REPLACE))
    }

    /// Removes an address and the route to its network. Throws EADDRNOTAVAIL when the link does not
    /// have it; with the first address of an IPv4 network the others of that network may go
    /// (`promote_secondaries`).
    public func delete(_ address: InterfaceAddress) throws(NetlinkError) {
        try change(address.message(Int(RTM_DELADDR), flags: 0))
        if address.prefix.family == .ipv6, !address.hasNoPrefixRoute, address.validLifetime != nil {
            try deletePrefixRoute(address.prefix.network, link: address.link)
        }
    }

    /// Removes the route to a network that no address of a link is in any more. The kernel removes
    /// those of permanent addresses alone, and keeps others until their lifetime ends
    /// (`ipv6_del_addr` of net/ipv6/addrconf.c).
    private func deletePrefixRoute(_ network: IPPrefix, link: Int) throws(NetlinkError) {
        let isShared = try addresses(of: link).contains { $0.prefix.network == network && !$0.hasNoPrefixRoute }
        if isShared { return }
        let left = try routes(origin: UInt8(RTPROT_KERNEL)).filter {
            $0.destination == network && $0.link == link && $0.gateway == nil && $0.kind == .unicast
        }
        for route in left {
            do {
                try delete(route)
            } catch {
                // Its lifetime has just ended.
                guard error.code == ESRCH else { throw error }
            }
        }
    }
}
