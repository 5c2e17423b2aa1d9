import Addresses
import CMnl
import Glibc

/// A connection that the kernel tracks, as CTA_* of linux/netfilter/nfnetlink_conntrack.h report
/// it.
///
/// It refers to no heap storage: reading millions of them allocates nothing.
public struct TrackedConnection: Sendable, Hashable, BitwiseCopyable {
    /// The packets of one direction, as they come in.
    public struct Tuple: Sendable, Hashable, BitwiseCopyable {
        public var source: IPAddress
        public var destination: IPAddress
        /// Nil for a protocol without ports.
        public var sourcePort: Int?
        /// The destination's; nil for a protocol without ports.
        public var port: Int?
        /// The zone that this direction's tuple is unique in; 0 is the zone of packets without `ct
        /// zone`.
        public var zone = 0
        /// Nil for what is neither ICMP nor ICMPv6.
        var query: Query?
    }

    /// An ICMP message and its answers: the identifier stands in for ports.
    struct Query: Sendable, Hashable, BitwiseCopyable {
        var identifier: UInt16 = 0
        var type: UInt8 = 0
        var code: UInt8 = 0
    }

    public var original: Tuple
    public var reply: Tuple
    /// The protocol's number (IANA, `/etc/protocols`).
    public var transport: Int
    /// IPS_* of linux/netfilter/nf_conntrack_common.h.
    public var status: UInt32 = 0
    public var mark: UInt32 = 0
    /// Seconds until the kernel deletes it if no packet comes.
    public var timeout = 0
    /// TCP_CONNTRACK_* of linux/netfilter/nf_conntrack_tcp.h; nil for what is not TCP.
    public var tcpState: Int?
    /// Tells it from a later connection with the same tuple (CTA_ID), unless that one lies at the
    /// same place of the kernel's memory.
    var id: UInt32 = 0

    private func has(_ bit: ip_conntrack_status) -> Bool { status & bit.rawValue != 0 }

    /// Seen in both directions.
    public var isAnswered: Bool { has(IPS_SEEN_REPLY) }
    /// Expected by another one, such as data of FTP.
    public var isExpected: Bool { has(IPS_EXPECTED) }
    public var isDestinationTranslated: Bool { has(IPS_DST_NAT) }
    public var isSourceTranslated: Bool { has(IPS_SRC_NAT) }

    /// What `ct zone` and `ct original zone` are for its packets; nil where the two differ, because
    /// the zone is one of the reply direction alone.
    public var zone: Int? { original.zone == 0 && reply.zone != 0 ? nil : original.zone }

    private static let tcpStates = [
        "none", "syn-sent", "syn-recv", "established", "fin-wait", "close-wait", "last-ack", "time-wait", "close",
    ]

    /// In a word.
    public var state: String {
        if has(IPS_HW_OFFLOAD) { return "hardware" }
        if has(IPS_OFFLOAD) { return "offloaded" }
        if let tcpState, Self.tcpStates.indices.contains(tcpState) { return Self.tcpStates[tcpState] }
        return isAnswered ? "answered" : "new"
    }

    /// Nil for an answer without tuples of IPv4 or IPv6.
    init?(_ answer: Answer) {
        var original: Tuple?
        var reply: Tuple?
        var number: UInt8 = 0
        var zone = 0
        for attribute in answer.attributeSequence(behind: nfgenmsg.self) {
            switch UInt32(attribute.type) {
            case CTA_TUPLE_ORIG.rawValue: original = Tuple(attribute, &number)
            case CTA_TUPLE_REPLY.rawValue: reply = Tuple(attribute, &number)
            case CTA_STATUS.rawValue: status = UInt32(truncatingIfNeeded: attribute.bigEndianNumber)
            case CTA_MARK.rawValue: mark = UInt32(truncatingIfNeeded: attribute.bigEndianNumber)
            case CTA_TIMEOUT.rawValue: timeout = attribute.bigEndianNumber
            case CTA_ZONE.rawValue: zone = attribute.bigEndianNumber
            case CTA_ID.rawValue: id = UInt32(truncatingIfNeeded: attribute.bigEndianNumber)
            case CTA_PROTOINFO.rawValue: tcpState = Self.tcpState(attribute)
            default: break
            }
        }
        guard var original, var reply else { return nil }
        // A zone of both directions is the connection's attribute, one of a single direction its
        // tuple's.
        if zone != 0 {
            original.zone = zone
            reply.zone = zone
        }
        self.original = original
        self.reply = reply
        transport = Int(number)
    }

    private static func tcpState(_ attribute: Attribute) -> Int? {
        for tcp in attribute.nestedSequence where tcp.type == Int(CTA_PROTOINFO_TCP.rawValue) {
            for part in tcp.nestedSequence where part.type == Int(CTA_PROTOINFO_TCP_STATE.rawValue) {
                return part.bigEndianNumber
            }
        }
        return nil
    }
}

extension TrackedConnection.Tuple {
    /// - Parameter transport: set to the protocol's number.
    fileprivate init?(_ attribute: Attribute, _ transport: inout UInt8) {
        var source: IPAddress?
        var destination: IPAddress?
        var query = TrackedConnection.Query()
        var isQuery = false
        for part in attribute.nestedSequence {
            switch UInt32(part.type) {
            case CTA_TUPLE_IP.rawValue:
                for address in part.nestedSequence {
                    switch UInt32(address.type) {
                    case CTA_IP_V4_SRC.rawValue, CTA_IP_V6_SRC.rawValue: source = address.address
                    case CTA_IP_V4_DST.rawValue, CTA_IP_V6_DST.rawValue: destination = address.address
                    default: break
                    }
                }
            case CTA_TUPLE_PROTO.rawValue:
                for item in part.nestedSequence {
                    let number = item.bigEndianNumber
                    switch UInt32(item.type) {
                    case CTA_PROTO_NUM.rawValue: transport = UInt8(truncatingIfNeeded: number)
                    case CTA_PROTO_SRC_PORT.rawValue: sourcePort = number
                    case CTA_PROTO_DST_PORT.rawValue: port = number
                    case CTA_PROTO_ICMP_ID.rawValue, CTA_PROTO_ICMPV6_ID.rawValue:
                        query.identifier = UInt16(truncatingIfNeeded: number)
                        isQuery = true
                    case CTA_PROTO_ICMP_TYPE.rawValue, CTA_PROTO_ICMPV6_TYPE.rawValue:
                        query.type = UInt8(truncatingIfNeeded: number)
                    case CTA_PROTO_ICMP_CODE.rawValue, CTA_PROTO_ICMPV6_CODE.rawValue:
                        query.code = UInt8(truncatingIfNeeded: number)
                    default: break
                    }
                }
            case CTA_TUPLE_ZONE.rawValue: zone = part.bigEndianNumber
            default: break
            }
        }
        guard let source, let destination else { return nil }
        self.source = source
        self.destination = destination
        self.query = isQuery ? query : nil
    }

    /// Writes what the kernel finds the connection by, as CTA_TUPLE_ORIG.
    fileprivate func put(into message: Message, transport: Int, withZone: Bool) throws(NetlinkError) {
        let is4 = source.family == .ipv4
        try message.nest(Int(CTA_TUPLE_ORIG.rawValue)) { () throws(NetlinkError) in
            try message.nest(Int(CTA_TUPLE_IP.rawValue)) { () throws(NetlinkError) in
                try message.put(Int((is4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC).rawValue), source.bytes)
                try message.put(Int((is4 ? CTA_IP_V4_DST : CTA_IP_V6_DST).rawValue), destination.bytes)
            }
            try message.nest(Int(CTA_TUPLE_PROTO.rawValue)) { () throws(NetlinkError) in
                try message.put(Int(CTA_PROTO_NUM.rawValue), UInt8(truncatingIfNeeded: transport))
                for (type, port) in [(CTA_PROTO_SRC_PORT, sourcePort), (CTA_PROTO_DST_PORT, port)] {
                    if let port { try message.put(Int(type.rawValue), UInt16(truncatingIfNeeded: port).bigEndian) }
                }
                if let query {
                    let types =
                        is4
                        ? (CTA_PROTO_ICMP_ID, CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMP_CODE)
                        : (CTA_PROTO_ICMPV6_ID, CTA_PROTO_ICMPV6_TYPE, CTA_PROTO_ICMPV6_CODE)
                    try message.put(Int(types.0.rawValue), query.identifier.bigEndian)
                    try message.put(Int(types.1.rawValue), query.type)
                    try message.put(Int(types.2.rawValue), query.code)
                }
            }
            if withZone {
                try message.put(Int(CTA_TUPLE_ZONE.rawValue), UInt16(truncatingIfNeeded: zone).bigEndian)
            }
        }
    }
}

/// A socket to connection tracking (NFNL_SUBSYS_CTNETLINK of linux/netfilter/nfnetlink.h).
public final class ConnectionSocket: NetlinkSocket {
    /// - Throws: the error of socket(2) or bind(2).
    public init() throws(NetlinkError) { try super.init(NETLINK_NETFILTER, "NETLINK_NETFILTER") }

    /// For tests: a socket whose far end is not the kernel.
    override init(descriptor: Int32) throws(NetlinkError) { try super.init(descriptor: descriptor) }

    static func message(
        _ type: cntl_msg_types, _ family: IPAddress.Family?, about subject: String
    ) -> Message {
        var head = nfgenmsg()
        head.nfgen_family = UInt8(family?.number ?? AF_UNSPEC)
        return Message(Int(NFNL_SUBSYS_CTNETLINK) << 8 | Int(type.rawValue), head, about: subject)
    }

    /// Deletes a connection (IPCTNL_MSG_CT_DELETE): its next packet is the first of a new one.
    ///
    /// - Returns: false when it is gone already, also when another one has its tuple by now.
    /// - Throws: the kernel's error.
    @discardableResult
    public func delete(_ connection: TrackedConnection) throws(NetlinkError) -> Bool {
        let tuple = connection.original
        let message = Self.message(
            IPCTNL_MSG_CT_DELETE, tuple.source.family,
            about: "the connection from \(tuple.source) to \(tuple.destination)")
        // The kernel takes a zone of both directions behind the tuple, and that of one direction
        // within.
        let isOfBoth = tuple.zone == connection.reply.zone
        try tuple.put(into: message, transport: connection.transport, withZone: tuple.zone != 0 && !isOfBoth)
        if tuple.zone != 0, isOfBoth {
            try message.put(Int(CTA_ZONE.rawValue), UInt16(truncatingIfNeeded: tuple.zone).bigEndian)
        }
        try message.put(Int(CTA_ID.rawValue), connection.id.bigEndian)
        do {
            try change(message)
            return true
        } catch {
            guard error.code == ENOENT else { throw error }
            return false
        }
    }
}

/// The kernel's connections, one at a time, over a socket of its own.
///
/// What the caller has not asked for waits in the kernel. A connection that ends meanwhile may be
/// left out, one that begins may be in it or not, and the kernel reports some twice when others
/// end.
///
/// The kernel's filter of a dump (CTA_FILTER, CTA_STATUS, CTA_MARK, CTA_ZONE) finds what equals all
/// given values. No caller asks that: an address may be any of a connection's four, and a policy is
/// none of them. Only the family is filtered by the kernel.
public final class ConnectionDump {
    private let dump: Dump

    /// - Parameter family: nil for both.
    /// - Throws: the error of socket(2), bind(2) or sendmsg(2).
    public convenience init(of family: IPAddress.Family? = nil) throws(NetlinkError) {
        try self.init(of: family, on: ConnectionSocket())
    }

    init(of family: IPAddress.Family? = nil, on socket: ConnectionSocket) throws(NetlinkError) {
        dump = try Dump(ConnectionSocket.message(IPCTNL_MSG_CT_GET, family, about: "the connections"), on: socket)
    }

    /// The next connection; nil at the end.
    ///
    /// - Throws: the error that the kernel ends the dump with, or that of recvmsg(2).
    public func next() throws(NetlinkError) -> TrackedConnection? {
        while let answer = try dump.next() {
            if let connection = TrackedConnection(answer) { return connection }
        }
        return nil
    }

    /// False when connections may be missing that were there all the time: only another dump has
    /// them.
    public var isWhole: Bool { dump.isWhole }
}
