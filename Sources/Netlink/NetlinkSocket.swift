import CMnl
import Glibc

/// A socket to the kernel's links, addresses, routes and policy rules (rtnetlink(7)).
public final class RouteSocket: NetlinkSocket {
    public init() throws(NetlinkError) {
        try super.init(NETLINK_ROUTE, "NETLINK_ROUTE")
        // The kernel then honours the filters of a dump instead of ignoring them. A kernel before
        // 4.20 lacks the option and dumps everything: each dump filters its answers again.
        enable(NETLINK_GET_STRICT_CHK)
    }

    /// For tests: a socket whose far end is not the kernel.
    override init(descriptor: Int32) throws(NetlinkError) { try super.init(descriptor: descriptor) }
}

/// A socket to a part of the kernel: requests and their answers.
public class NetlinkSocket {
    private let socket: OpaquePointer
    private var sequence: UInt32 = 0
    /// Requests for changes so far.
    public private(set) var changeCount = 0

    init(_ part: Int32, _ name: String) throws(NetlinkError) {
        guard let socket = mnl_socket_open2(part, Int32(SOCK_CLOEXEC.rawValue)) else {
            throw NetlinkError("socket(\(name))")
        }
        self.socket = socket
        guard mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) == 0 else {
            let error = NetlinkError("bind(\(name))")
            mnl_socket_close(socket)
            throw error
        }
        enable(NETLINK_EXT_ACK)
        enable(NETLINK_CAP_ACK)
    }

    /// Takes over an open socket.
    init(descriptor: Int32) throws(NetlinkError) {
        guard let socket = mnl_socket_fdopen(descriptor) else { throw NetlinkError("socket \(descriptor)") }
        self.socket = socket
    }

    deinit { mnl_socket_close(socket) }

    var descriptor: Int32 { mnl_socket_get_fd(socket) }

    /// Sets a socket option of linux/netlink.h that a kernel may lack.
    func enable(_ option: Int32) {
        var on: Int32 = 1
        mnl_socket_setsockopt(socket, option, &on, socklen_t(MemoryLayout<Int32>.size))
    }

    /// Sends a request and waits for the kernel's acknowledgement.
    func change(_ message: Message) throws(NetlinkError) {
        changeCount += 1
        message.header.pointee.nlmsg_flags |= UInt16(NLM_F_ACK)
        let number = try send(message)
        var failure: NetlinkError?
        try receive(number, message.subject) { answer in
            guard answer.type == Int(NLMSG_ERROR) else { return true }
            failure = answer.failure(message.subject)
            return false
        }
        if let failure { throw failure }
    }

    /// Requests one object.
    ///
    /// - Parameter none: the errnos that mean "there is none"; the result is nil then.
    func ask<Item>(
        _ message: Message, none: Set<Int32>, _ read: (Answer) -> Item?
    ) throws(NetlinkError) -> Item? {
        message.header.pointee.nlmsg_flags |= UInt16(NLM_F_ACK)
        let number = try send(message)
        var item: Item?
        var failure: NetlinkError?
        try receive(number, message.subject) { answer in
            guard answer.type == Int(NLMSG_ERROR) else {
                item = item ?? read(answer)
                return true
            }
            failure = answer.failure(message.subject)
            return false
        }
        if let failure {
            if none.contains(failure.code) { return nil }
            throw failure
        }
        return item
    }

    /// How often a dump is requested, and how often a full receive buffer is got over, before the
    /// dump fails.
    static let attempts = 50

    /// Requests all objects of a kind; again when a change interrupted the dump (NLM_F_DUMP_INTR)
    /// or the receive buffer was full (ENOBUFS).
    func dump<Item>(
        _ message: Message, _ read: (Answer) -> Item?
    ) throws(NetlinkError) -> [Item] {
        for _ in 0..<Self.attempts {
            if let items = try dumpOnce(message, read) { return items }
        }
        throw NetlinkError(
            message.subject, code: EINTR, message: "changed during each of \(Self.attempts) dumps; try again later")
    }

    /// - Returns: nil for a dump that is not whole.
    private func dumpOnce<Item>(
        _ message: Message, _ read: (Answer) -> Item?
    ) throws(NetlinkError) -> [Item]? {
        let dump = try Dump(message, on: self)
        var items: [Item] = []
        while let answer = try dump.next() {
            if let item = read(answer) { items.append(item) }
        }
        return dump.isWhole ? items : nil
    }

    /// Sends a request that does nothing but cause an acknowledgement (NLMSG_NOOP, netlink(7)).
    func poke(_ subject: String) throws(NetlinkError) {
        var header = nlmsghdr()
        header.nlmsg_len = UInt32(MemoryLayout<nlmsghdr>.size)
        header.nlmsg_type = UInt16(NLMSG_NOOP)
        header.nlmsg_flags = UInt16(NLM_F_REQUEST | NLM_F_ACK)
        try transmit(&header, MemoryLayout<nlmsghdr>.size, subject)
    }

    /// - Returns: the sequence number that the answers carry; never 0, the number of unasked
    ///   messages.
    func send(_ message: Message) throws(NetlinkError) -> UInt32 {
        sequence = sequence == .max ? 1 : sequence + 1
        message.header.pointee.nlmsg_seq = sequence
        try transmit(message.header, message.length, message.subject)
        return sequence
    }

    /// Without an address, send(2) on a netlink socket reaches the kernel.
    private func transmit(_ bytes: UnsafeRawPointer, _ count: Int, _ subject: String) throws(NetlinkError) {
        while Glibc.send(descriptor, bytes, count, 0) < 0 {
            guard errno == EINTR else { throw NetlinkError(subject) }
        }
    }

    private func receive(
        _ number: UInt32, _ subject: String, _ body: (Answer) -> Bool
    ) throws(NetlinkError) {
        let code = receive(number, body)
        if code != 0 { throw NetlinkError(subject, code: code) }
    }

    /// - Returns: an errno, or 0.
    private func receive(_ number: UInt32, _ body: (Answer) -> Bool) -> Int32 {
        Self.read(descriptor, wait: true) { answer in
            // Others are left from a request that failed in the middle.
            answer.header.pointee.nlmsg_seq == number ? body(answer) : true
        }
    }

    /// Reads messages until `body` has enough, or without waiting until none is there.
    ///
    /// - Returns: an errno, or 0, that of ``Datagram/receive(_:into:wait:)``.
    static func read(_ descriptor: Int32, wait: Bool, _ body: (Answer) -> Bool) -> Int32 {
        withUnsafeTemporaryAllocation(byteCount: Datagram.capacity, alignment: 8) { buffer in
            var datagram = Datagram()
            while true {
                let code = datagram.receive(descriptor, into: buffer, wait: wait)
                if code != 0 { return code == EAGAIN && !wait ? 0 : code }
                while let answer = datagram.next() {
                    if !body(answer) { return 0 }
                }
            }
        }
    }
}
