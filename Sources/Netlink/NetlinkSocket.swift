import CMnl
import Glibc

/// A socket to the kernel's links, addresses, routes and policy rules (rtnetlink(7)).
public final class RouteSocket: NetlinkSocket {
    public init() throws(NetlinkError) { try super.init(NETLINK_ROUTE, "NETLINK_ROUTE") }
}

/// A socket to a part of the kernel: requests and their answers.
public class NetlinkSocket {
    private let socket: OpaquePointer
    private var sequence: UInt32 = 0

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
        var on: Int32 = 1
        for option in [NETLINK_EXT_ACK, NETLINK_CAP_ACK] {
            mnl_socket_setsockopt(socket, option, &on, socklen_t(MemoryLayout<Int32>.size))
        }
    }

    deinit { mnl_socket_close(socket) }

    /// Sends a request and waits for the kernel's word.
    ///
    /// - Parameter subject: what it is about, for an error.
    func change(_ message: Message, _ subject: @autoclosure () -> String) throws(NetlinkError) {
        message.header.pointee.nlmsg_flags |= UInt16(NLM_F_ACK)
        try send(message, subject())
        var failure: NetlinkError?
        try receive(subject()) { answer in
            guard answer.type == Int(NLMSG_ERROR) else { return true }
            failure = Self.failure(answer, subject())
            return false
        }
        if let failure { throw failure }
    }

    /// Asks for one thing; nil when the kernel has an errno for an answer, one of `none`.
    func ask<Item>(
        _ message: Message, _ subject: String, none: Set<Int32>, _ read: (Answer) -> Item?
    ) throws(NetlinkError) -> Item? {
        message.header.pointee.nlmsg_flags |= UInt16(NLM_F_ACK)
        try send(message, subject)
        var (item, failure): (Item?, NetlinkError?)
        try receive(subject) { answer in
            guard answer.type == Int(NLMSG_ERROR) else {
                item = item ?? read(answer)
                return true
            }
            failure = Self.failure(answer, subject)
            return false
        }
        if let failure {
            if none.contains(failure.code) { return nil }
            throw failure
        }
        return item
    }

    /// Asks for all of a kind; once more when a change interrupted the answer (NLM_F_DUMP_INTR).
    func dump<Item>(
        _ make: () -> Message, _ subject: String, _ read: (Answer) -> Item?
    ) throws(NetlinkError) -> [Item] {
        for _ in 0..<50 {
            var items: [Item] = []
            var isWhole = true
            var failure: NetlinkError?
            let message = make()
            message.header.pointee.nlmsg_flags |= UInt16(NLM_F_DUMP)
            try send(message, subject)
            try receive(subject) { answer in
                if Int32(answer.header.pointee.nlmsg_flags) & NLM_F_DUMP_INTR != 0 { isWhole = false }
                switch answer.type {
                case Int(NLMSG_DONE): return false
                case Int(NLMSG_ERROR):
                    failure = Self.failure(answer, subject)
                    return false
                default:
                    if let item = read(answer) { items.append(item) }
                    return true
                }
            }
            if let failure { throw failure }
            if isWhole { return items }
        }
        throw NetlinkError(subject, code: EINTR, message: "it changed while it was read, fifty times")
    }

    private static func failure(_ answer: Answer, _ subject: String) -> NetlinkError? {
        let error = answer.body(nlmsgerr.self)
        guard error.error != 0 else { return nil }
        var text: String?
        if Int32(answer.header.pointee.nlmsg_flags) & NLM_F_ACK_TLVS != 0 {
            // NLMSGERR_ATTR_MSG
            text = answer.attributes(behind: nlmsgerr.self)[1]?.text
        }
        return NetlinkError(subject, code: -error.error, message: text)
    }

    private func send(_ message: Message, _ subject: String) throws(NetlinkError) {
        sequence &+= 1
        message.header.pointee.nlmsg_seq = sequence
        while mnl_socket_sendto(socket, message.header, message.length) < 0 {
            guard errno == EINTR else { throw NetlinkError(subject) }
        }
    }

    private func receive(_ subject: String, _ body: (Answer) -> Bool) throws(NetlinkError) {
        let failure = Self.read(mnl_socket_get_fd(socket), wait: true) { answer in
            // What a request that failed in the middle left behind.
            answer.header.pointee.nlmsg_seq == self.sequence ? body(answer) : true
        }
        if failure != 0 { throw NetlinkError(subject, code: failure) }
    }

    /// Reads messages until `body` has enough, or without waiting until none is there. Returns an errno, or 0.
    static func read(_ descriptor: Int32, wait: Bool, _ body: (Answer) -> Bool) -> Int32 {
        let capacity = 1 << 17
        return withUnsafeTemporaryAllocation(byteCount: capacity, alignment: 8) { room in
            guard let buffer = room.baseAddress else { return ENOMEM }
            while true {
                let count = recv(descriptor, buffer, capacity, wait ? 0 : Int32(MSG_DONTWAIT))
                if count < 0 {
                    if errno == EINTR { continue }
                    return errno == EAGAIN ? 0 : errno
                }
                if count == 0 { return 0 }
                var left = Int32(count)
                var next: UnsafePointer<nlmsghdr>? = UnsafePointer(buffer.assumingMemoryBound(to: nlmsghdr.self))
                while let header = next, mnl_nlmsg_ok(header, left) {
                    if !body(Answer(header: header)) { return 0 }
                    next = UnsafePointer(mnl_nlmsg_next(header, &left))
                }
            }
        }
    }
}
