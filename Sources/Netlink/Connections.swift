import Addresses
import CMnl
import Glibc

/// A connection that the kernel keeps track of.
public struct TrackedConnection: Sendable, Hashable {
    /// One of its directions, as its packets come in.
    public struct Tuple: Sendable, Hashable {
        public var source: IPAddress
        public var destination: IPAddress
        /// Of protocols that have them; of ICMP nil.
        public var sourcePort: Int?
        public var port: Int?
    }

    public var original: Tuple
    public var reply: Tuple
    /// IANA's number.
    public var transport: Int
    /// IPS_* of linux/netfilter/nf_conntrack_common.h.
    public var status: UInt32
    public var mark: UInt32
    /// Seconds that it stays without a packet.
    public var timeout: Int
    /// TCP_CONNTRACK_*; nil for what is not TCP.
    public var tcpState: Int?
    /// What the kernel knows it by.
    let key: [UInt8]

    /// Seen in both directions.
    public var isAnswered: Bool { status & 2 != 0 }
    /// Expected by another one, such as data of FTP.
    public var isExpected: Bool { status & 1 != 0 }
    public var isDestinationTranslated: Bool { status & 0x20 != 0 }
    public var isSourceTranslated: Bool { status & 0x10 != 0 }

    private static let tcpStates = [
        "none", "syn-sent", "syn-recv", "established", "fin-wait", "close-wait", "last-ack", "time-wait", "close",
    ]

    /// In a word.
    public var state: String {
        // IPS_OFFLOAD, IPS_HW_OFFLOAD
        if status & 0x8000 != 0 { return "hardware" }
        if status & 0x4000 != 0 { return "offloaded" }
        if let tcpState, Self.tcpStates.indices.contains(tcpState) { return Self.tcpStates[tcpState] }
        return isAnswered ? "answered" : "new"
    }

    /// Reads CTA_*.
    init?(_ answer: Answer) {
        let all = answer.attributes(behind: ConnectionSocket.Head.self)
        guard let first = all[1].flatMap({ Self.tuple($0) }), let second = all[2].flatMap({ Self.tuple($0) }) else {
            return nil
        }
        (original, reply, transport, key) = (first.tuple, second.tuple, first.transport, all[1]?.bytes ?? [])
        func number(_ type: Int) -> UInt32 { all[type]?.bytes.reduce(0) { $0 << 8 | UInt32($1) } ?? 0 }
        (status, timeout, mark) = (number(3), Int(number(7)), number(8))
        // CTA_PROTOINFO, CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE
        let tcp = all[4]?.nested.first { $0.0 == 1 }?.1
        tcpState = tcp?.nested.first { $0.0 == 1 }?.1.bytes.first.map(Int.init)
    }

    private static func tuple(_ attribute: Attribute) -> (tuple: Tuple, transport: Int)? {
        let parts = attribute.nested
        // CTA_TUPLE_IP and CTA_TUPLE_PROTO
        let addresses = parts.first { $0.0 == 1 }?.1.nested ?? []
        let ports = Dictionary(parts.first { $0.0 == 2 }?.1.nested ?? []) { $1 }
        func address(_ types: Int...) -> IPAddress? { addresses.first { types.contains($0.0) }?.1.address }
        func port(_ type: Int) -> Int? { ports[type]?.bytes.reduce(0) { $0 << 8 | Int($1) } }
        guard let source = address(1, 3), let destination = address(2, 4), let transport = ports[1]?.bytes.first else {
            return nil
        }
        return (
            Tuple(source: source, destination: destination, sourcePort: port(2), port: port(3)), Int(transport)
        )
    }
}

/// A socket to connection tracking (nfnetlink's subsystem 1).
public final class ConnectionSocket: NetlinkSocket {
    /// nfgenmsg
    struct Head {
        var family: UInt8 = 0
        var version: UInt8 = 0
        var resource: UInt16 = 0
    }

    public init() throws(NetlinkError) { try super.init(NETLINK_NETFILTER, "NETLINK_NETFILTER") }

    /// IPCTNL_MSG_CT_*, of NFNL_SUBSYS_CTNETLINK.
    private static let (get, delete) = (1 << 8 | 1, 1 << 8 | 2)

    /// All of both families.
    public func connections() throws(NetlinkError) -> [TrackedConnection] {
        try dump(Message(Self.get, Head(), about: "the connections")) { TrackedConnection($0) }
    }

    /// Forgets a connection: its next packet is the first of a new one. One that is gone already is
    /// fine.
    public func forget(_ connection: TrackedConnection) throws(NetlinkError) {
        let (tuple, is4) = (connection.original, connection.original.source.family == .ipv4)
        let message = Message(
            Self.delete, Head(family: UInt8(is4 ? AF_INET : AF_INET6)),
            about: "a connection from \(tuple.source) to \(tuple.destination)")
        do {
            // CTA_TUPLE_ORIG, NLA_F_NESTED
            try message.put(1 | 0x8000, connection.key)
            try change(message)
        } catch {
            guard error.code == ENOENT else { throw error }
        }
    }
}
