import CMnl
import CNftables
import Glibc

/// Why the kernel refused a batch.
public struct NftablesError: Error, Sendable, CustomStringConvertible {
    /// One refused message.
    public struct Refusal: Sendable, Hashable {
        /// Which object it was about, and who wanted it.
        public var subject: String
        /// errno(3).
        public var code: Int32
        /// What the kernel says beside the errno.
        public var message: String?
    }

    public var refusals: [Refusal]

    /// False where the batch may have taken effect although the call failed.
    public let isOutcomeKnown: Bool

    /// Somebody changed the ruleset since the generation that was expected.
    public var isStale: Bool { refusals.contains { $0.code == ERESTART } }

    public var description: String {
        refusals.map { refusal in
            let name = String(cString: strerror(refusal.code))
            return "\(refusal.subject): \(name) (\(refusal.code))" + (refusal.message.map { ": \($0)" } ?? "")
        }.joined(separator: "\n")
    }

    init(_ refusals: [Refusal]) {
        self.refusals = refusals
        isOutcomeKnown = !refusals.contains { $0.code == EIO }
    }

    /// A call that failed before anything was asked of nftables.
    init(call: String) {
        refusals = [Refusal(subject: call, code: errno)]
        isOutcomeKnown = false
    }
}

/// A socket to the kernel's nftables. The owner of a table is this socket: it must stay open as
/// long as the table is to have an owner.
public final class Connection {
    private let socket: OpaquePointer
    private let port: UInt32
    private var sequence: UInt32 = 1

    public init() throws(NftablesError) {
        guard let socket = mnl_socket_open2(NETLINK_NETFILTER, Int32(SOCK_CLOEXEC.rawValue)) else {
            throw NftablesError(call: "socket(NETLINK_NETFILTER)")
        }
        self.socket = socket
        guard mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) == 0 else {
            let error = NftablesError(call: "bind(NETLINK_NETFILTER)")
            mnl_socket_close(socket)
            throw error
        }
        port = mnl_socket_get_portid(socket)
        var on: Int32 = 1
        mnl_socket_setsockopt(socket, NETLINK_EXT_ACK, &on, socklen_t(MemoryLayout<Int32>.size))
        mnl_socket_setsockopt(socket, NETLINK_CAP_ACK, &on, socklen_t(MemoryLayout<Int32>.size))
        // A batch must fit the send buffer, and one error a message the receive buffer.
        var size: Int32 = 64 << 20
        let length = socklen_t(MemoryLayout<Int32>.size)
        if setsockopt(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, &size, length) != 0 {
            setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &size, length)
        }
        if setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &size, length) != 0 {
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, length)
        }
    }

    deinit { mnl_socket_close(socket) }

    var descriptor: Int32 { mnl_socket_get_fd(socket) }

    /// Sends a batch; all of it takes effect, or nothing.
    ///
    /// - Parameter generation: refuse when the ruleset's generation is another one; an optimistic
    ///   lock.
    public func commit(_ batch: Batch, expecting generation: UInt32? = nil) throws(NftablesError) {
        try send(batch, expecting: generation, isDryRun: false)
    }

    /// Has the kernel check a batch and change nothing: its end is left out, so that all is taken
    /// back.
    public func check(_ batch: Batch, expecting generation: UInt32? = nil) throws(NftablesError) {
        try send(batch, expecting: generation, isDryRun: true)
    }

    private func send(_ batch: Batch, expecting generation: UInt32?, isDryRun: Bool) throws(NftablesError) {
        if let missing = batch.missing { throw NftablesError([missing]) }
        if batch.isEmpty { return }
        let before = isDryRun ? 0 : try self.generation()
        var bytes: [UInt8] = []
        bytes.reserveCapacity(batch.bytes.count + 64)
        let isWhole = withUnsafeTemporaryAllocation(byteCount: 256, alignment: 8) { room -> Bool in
            let buffer = room.baseAddress?.assumingMemoryBound(to: CChar.self)
            guard let begin = nftnl_batch_begin(buffer, 0) else { return false }
            if let generation { mnl_attr_put_u32(begin, UInt16(NFNL_BATCH_GENID.rawValue), generation.bigEndian) }
            bytes.append(contentsOf: UnsafeRawBufferPointer(start: begin, count: Int(begin.pointee.nlmsg_len)))
            bytes.append(contentsOf: batch.bytes)
            if isDryRun { return true }
            guard let end = nftnl_batch_end(buffer, UInt32(batch.subjects.count)) else { return false }
            bytes.append(contentsOf: UnsafeRawBufferPointer(start: end, count: Int(end.pointee.nlmsg_len)))
            return true
        }
        guard isWhole else { throw NftablesError([.init(subject: "the batch", code: ENOMEM, message: nil)]) }
        guard mnl_socket_sendto(socket, bytes, bytes.count) == bytes.count else { throw NftablesError(call: "sendto") }
        // The kernel has done all within that call: what it says is there now.
        let refusals = drain(batch, isDryRun: isDryRun)
        guard refusals.isEmpty else { throw NftablesError(refusals) }
        if !isDryRun, try self.generation() == before {
            throw NftablesError([
                .init(subject: "the batch", code: EIO, message: "no new generation, and no reason given")
            ])
        }
    }

    /// Reads errors until none is left.
    private func drain(_ batch: Batch, isDryRun: Bool) -> [NftablesError.Refusal] {
        var refusals: [NftablesError.Refusal] = []
        let code = Self.receive(from: descriptor, wait: false) { header in
            guard header.pointee.nlmsg_type == UInt16(NLMSG_ERROR) else { return true }
            let error = mnl_nlmsg_get_payload(header).assumingMemoryBound(to: nlmsgerr.self)
            let code = -error.pointee.error
            guard code != 0 else { return true }
            let number = Int(error.pointee.msg.nlmsg_seq)
            let subject = batch.subjects.indices.contains(number) ? batch.subjects[number] : batch.subjects[0]
            refusals.append(.init(subject: subject, code: code, message: Self.message(header)))
            return true
        }
        // Refusals that did not fit the buffer are lost. After a batch that was to take effect the
        // generation tells; after a dry run nothing would.
        if refusals.isEmpty, code != 0, isDryRun || code != ENOBUFS {
            refusals.append(.init(subject: "the answer to the batch", code: code))
        }
        return refusals
    }

    /// The kernel's own words in an extended acknowledgement (NLMSGERR_ATTR_MSG).
    private static func message(_ header: UnsafePointer<nlmsghdr>) -> String? {
        guard Int32(header.pointee.nlmsg_flags) & NLM_F_ACK_TLVS != 0 else { return nil }
        var text: String?
        Attributes.each(header, offset: MemoryLayout<nlmsgerr>.size) { attribute in
            if mnl_attr_get_type(attribute) == 1 { text = String(cString: mnl_attr_get_str(attribute)) }
        }
        return text
    }

    // MARK: - Reading

    /// Receives messages until `body` has enough, or without waiting until none is there.
    ///
    /// - Returns: an errno, or 0. ENOBUFS means that messages were lost: a caller that waits learns
    ///   it at once, one that does not after all that is there.
    @discardableResult
    static func receive(
        from descriptor: Int32, wait: Bool, _ body: (UnsafePointer<nlmsghdr>) -> Bool
    ) -> Int32 {
        let capacity = 1 << 18
        return withUnsafeTemporaryAllocation(byteCount: capacity, alignment: 8) { room in
            guard let buffer = room.baseAddress else { return ENOMEM }
            var loss: Int32 = 0
            while true {
                let count = recv(descriptor, buffer, capacity, wait ? 0 : Int32(MSG_DONTWAIT))
                if count < 0 {
                    let code = errno
                    if code == EINTR { continue }
                    if wait { return code }
                    if code == ENOBUFS {
                        loss = code
                        continue
                    }
                    return code == EAGAIN ? loss : code
                }
                if count == 0 { return ECONNRESET }
                var left = Int32(count)
                var header: UnsafePointer<nlmsghdr>? = UnsafePointer(buffer.assumingMemoryBound(to: nlmsghdr.self))
                while let message = header, mnl_nlmsg_ok(message, left) {
                    if !body(message) { return loss }
                    header = UnsafePointer(mnl_nlmsg_next(message, &left))
                }
            }
        }
    }

    /// How often a dump or a question is repeated before it fails.
    private static let attempts = 20

    /// Requests all objects of a kind, and passes each message on; again when a change interrupted
    /// the dump (NLM_F_DUMP_INTR) or the receive buffer was full (ENOBUFS).
    func dump(
        _ type: nf_tables_msg_types, fill: (UnsafeMutablePointer<nlmsghdr>) -> Void = { _ in },
        _ body: (UnsafePointer<nlmsghdr>) -> Void, restart: () -> Void
    ) throws(NftablesError) {
        for _ in 0..<Self.attempts {
            restart()
            if try dumpOnce(type, fill: fill, body) { return }
        }
        throw NftablesError([
            .init(
                subject: "a dump of the ruleset", code: EINTR,
                message: "changed during each of \(Self.attempts) dumps; try again later")
        ])
    }

    /// - Returns: false for a dump that is not whole.
    private func dumpOnce(
        _ type: nf_tables_msg_types, fill: (UnsafeMutablePointer<nlmsghdr>) -> Void,
        _ body: (UnsafePointer<nlmsghdr>) -> Void
    ) throws(NftablesError) -> Bool {
        try request(type, flags: NLM_F_DUMP, fill: fill)
        var isWhole = true
        var failure: Int32 = 0
        var overruns = 0
        let expected = sequence
        while true {
            let code = Self.receive(from: descriptor, wait: true) { header in
                guard header.pointee.nlmsg_seq == expected else { return true }
                if Int32(header.pointee.nlmsg_flags) & NLM_F_DUMP_INTR != 0 { isWhole = false }
                switch Int32(header.pointee.nlmsg_type) {
                case NLMSG_DONE, NLMSG_ERROR:
                    failure = Self.failure(header)
                    return false
                default:
                    body(header)
                    return true
                }
            }
            guard code == ENOBUFS, overruns < Self.attempts else {
                if code != 0 { failure = code }
                break
            }
            // The kernel goes on with a dump only when a message is taken from the buffer, and
            // refuses another one (EBUSY) until the first has ended. The acknowledgement of an empty
            // request is a message to take. The dump is read to its end and requested again.
            overruns += 1
            isWhole = false
            try poke()
        }
        if failure != 0 { throw NftablesError([.init(subject: "a dump of the ruleset", code: failure)]) }
        return isWhole
    }

    /// The errno of an NLMSG_ERROR, or of the NLMSG_DONE that ends a dump, where the kernel puts it
    /// too (`netlink_dump_done` of net/netlink/af_netlink.c); 0 for success.
    static func failure(_ header: UnsafePointer<nlmsghdr>) -> Int32 {
        guard mnl_nlmsg_get_payload_len(header) >= MemoryLayout<Int32>.size else { return 0 }
        let code = mnl_nlmsg_get_payload(header).loadUnaligned(as: Int32.self)
        return code == .min ? EPROTO : max(-code, 0)
    }

    /// Sends a request that does nothing but cause an acknowledgement (NLMSG_NOOP, netlink(7)).
    private func poke() throws(NftablesError) {
        var header = nlmsghdr()
        let length = MemoryLayout<nlmsghdr>.size
        header.nlmsg_len = UInt32(length)
        header.nlmsg_type = UInt16(NLMSG_NOOP)
        header.nlmsg_flags = UInt16(NLM_F_REQUEST | NLM_F_ACK)
        guard mnl_socket_sendto(socket, &header, length) == length else { throw NftablesError(call: "sendto") }
    }

    /// The ruleset's generation: another number after every change, by any program.
    public func generation() throws(NftablesError) -> UInt32 {
        var code = ENOBUFS
        for _ in 0..<Self.attempts where code == ENOBUFS {
            try request(NFT_MSG_GETGEN, flags: 0) { _ in }
            var generation: UInt32?
            var refusal: Int32 = 0
            let expected = sequence
            code = Self.receive(from: descriptor, wait: true) { header in
                guard header.pointee.nlmsg_seq == expected else { return true }
                if header.pointee.nlmsg_type == UInt16(NLMSG_ERROR) {
                    refusal = Self.failure(header)
                    return false
                }
                Attributes.each(header, offset: MemoryLayout<nfgenmsg>.size) { attribute in
                    if mnl_attr_get_type(attribute) == UInt16(NFTA_GEN_ID.rawValue) {
                        generation = UInt32(bigEndian: mnl_attr_get_u32(attribute))
                    }
                }
                return false
            }
            if code == 0 {
                if let generation { return generation }
                code = refusal == 0 ? EPROTO : refusal
            }
        }
        throw NftablesError([.init(subject: "the ruleset's generation", code: code)])
    }

    private func request(
        _ type: nf_tables_msg_types, flags: Int32, fill: (UnsafeMutablePointer<nlmsghdr>) -> Void
    ) throws(NftablesError) {
        sequence &+= 1
        let number = sequence
        let sent = withUnsafeTemporaryAllocation(byteCount: 8192, alignment: 8) { room -> Bool in
            let buffer = room.baseAddress?.assumingMemoryBound(to: CChar.self)
            guard
                let header = nftnl_nlmsg_build_hdr(
                    buffer, UInt16(type.rawValue), UInt16(NFPROTO_INET), UInt16(flags), number)
            else { return false }
            fill(header)
            let length = Int(header.pointee.nlmsg_len)
            return mnl_socket_sendto(socket, header, length) == length
        }
        guard sent else { throw NftablesError(call: "sendto") }
    }
}

/// Attributes of a netlink message.
enum Attributes {
    static func each(
        _ header: UnsafePointer<nlmsghdr>, offset: Int, _ body: (UnsafePointer<nlattr>) -> Void
    ) {
        guard let tail = mnl_nlmsg_get_payload_tail(header),
            let start = mnl_nlmsg_get_payload_offset(header, offset)
        else { return }
        var attribute = UnsafePointer(start.assumingMemoryBound(to: nlattr.self))
        while mnl_attr_ok(attribute, Int32(UnsafeRawPointer(tail) - UnsafeRawPointer(attribute))) {
            body(attribute)
            guard let next = mnl_attr_next(attribute) else { return }
            attribute = UnsafePointer(next)
        }
    }
}
