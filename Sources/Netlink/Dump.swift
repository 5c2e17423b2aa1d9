import CMnl
import Glibc

/// A dump of the kernel's objects (NLM_F_DUMP) that is read one message at a time.
///
/// The kernel fills one datagram at a time and goes on when that one is received. A dump that its
/// reader leaves for a while costs one datagram here and one in the socket, however many objects
/// there are. No other request may use the socket until ``next()`` has returned nil.
final class Dump {
    private let socket: NetlinkSocket
    private let subject: String
    private let sequence: UInt32
    private let buffer: UnsafeMutableRawBufferPointer
    private var datagram = Datagram()
    private var isOver = false
    private var overruns = 0

    /// False once a change interrupted the dump (NLM_F_DUMP_INTR) or the socket reported ENOBUFS:
    /// objects may be missing, and only another dump has all of them.
    private(set) var isWhole = true

    init(_ message: Message, on socket: NetlinkSocket) throws(NetlinkError) {
        message.header.pointee.nlmsg_flags |= UInt16(NLM_F_DUMP)
        (self.socket, subject) = (socket, message.subject)
        sequence = try socket.send(message)
        // Last: without a whole object, nothing would deallocate it.
        buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Datagram.capacity, alignment: 8)
    }

    deinit { buffer.deallocate() }

    /// The next object; nil at the end of the dump.
    ///
    /// - Returns: an answer that is valid until the next call.
    /// - Throws: the error that ends the dump (NLMSG_DONE or NLMSG_ERROR), or that of recvmsg(2).
    func next() throws(NetlinkError) -> Answer? {
        while !isOver {
            guard let answer = datagram.next() else {
                try receive()
                continue
            }
            // Others are left from a request that failed in the middle.
            guard answer.header.pointee.nlmsg_seq == sequence else { continue }
            if Int32(answer.header.pointee.nlmsg_flags) & NLM_F_DUMP_INTR != 0 { isWhole = false }
            guard answer.type == Int(NLMSG_DONE) || answer.type == Int(NLMSG_ERROR) else { return answer }
            isOver = true
            if let failure = answer.failure(subject) { throw failure }
        }
        return nil
    }

    private func receive() throws(NetlinkError) {
        let code = datagram.receive(socket.descriptor, into: buffer, wait: true)
        if code == 0 { return }
        guard code == ENOBUFS, overruns < NetlinkSocket.attempts else {
            isOver = true
            throw NetlinkError(subject, code: code)
        }
        // The kernel goes on with a dump only when a message is taken from the buffer, and refuses
        // another one (EBUSY) until the first has ended. The acknowledgement of an empty request is
        // a message to take. The dump is read to its end and requested again.
        overruns += 1
        isWhole = false
        try socket.poke(subject)
    }
}

/// The messages of one datagram, in a buffer of the caller's.
struct Datagram {
    /// Bytes that a buffer must have. The kernel makes the datagrams of a dump as large as the
    /// reader's buffer, up to 32 KiB, and larger only for one object that needs it.
    static let capacity = 1 << 17

    private var position: UnsafePointer<nlmsghdr>?
    private var left: Int32 = 0

    /// Receives a datagram in place of the last one.
    ///
    /// - Parameter buffer: outlives all use of the messages.
    /// - Returns: an errno, or 0. A datagram that did not fit the buffer is EMSGSIZE; a far end that
    ///   closed is ECONNRESET; none there without waiting is EAGAIN.
    mutating func receive(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer, wait: Bool) -> Int32 {
        position = nil
        guard let start = buffer.baseAddress else { return ENOMEM }
        let flags = Int32(MSG_TRUNC) | (wait ? 0 : Int32(MSG_DONTWAIT))
        var count = recv(descriptor, start, buffer.count, flags)
        while count < 0, errno == EINTR { count = recv(descriptor, start, buffer.count, flags) }
        if count < 0 { return errno }
        if count == 0 { return ECONNRESET }
        if count > buffer.count { return EMSGSIZE }
        (position, left) = (UnsafePointer(start.assumingMemoryBound(to: nlmsghdr.self)), Int32(count))
        return 0
    }

    /// The next message; nil at the end of the datagram.
    mutating func next() -> Answer? {
        guard let header = position, mnl_nlmsg_ok(header, left) else { return nil }
        position = UnsafePointer(mnl_nlmsg_next(header, &left))
        return Answer(header: header)
    }
}
