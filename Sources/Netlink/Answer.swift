import Addresses
import CMnl
import Glibc

/// An answer: the attributes behind its fixed part, by number.
struct Answer {
    let header: UnsafePointer<nlmsghdr>

    var type: Int { Int(header.pointee.nlmsg_type) }

    /// The fixed part. The caller has checked the type, and the kernel sends each type's whole.
    func body<Body>(_: Body.Type) -> Body {
        mnl_nlmsg_get_payload(header).loadUnaligned(as: Body.self)
    }

    /// What went wrong, of an NLMSG_ERROR or of the NLMSG_DONE that ends a dump; nil for success.
    ///
    /// Both begin with a negative errno (`netlink_dump_done` of net/netlink/af_netlink.c for the
    /// latter), and may carry the kernel's own words behind the fixed part (NLM_F_ACK_TLVS).
    func failure(_ subject: String) -> NetlinkError? {
        guard mnl_nlmsg_get_payload_len(header) >= MemoryLayout<Int32>.size else { return nil }
        let code = body(Int32.self)
        guard code < 0 else { return nil }
        var text: String?
        if Int32(header.pointee.nlmsg_flags) & NLM_F_ACK_TLVS != 0 {
            let attributes =
                type == Int(NLMSG_DONE) ? attributes(behind: Int32.self) : attributes(behind: nlmsgerr.self)
            text = attributes[Int(NLMSGERR_ATTR_MSG.rawValue)]?.text
        }
        return NetlinkError(subject, code: code == .min ? EPROTO : -code, message: text)
    }

    /// The attributes behind a fixed part of `Body`.
    func attributes<Body>(behind _: Body.Type) -> [Int: Attribute] {
        attributeSequence(behind: Body.self).byType
    }

    /// The same in the order of the message, without a dictionary.
    func attributeSequence<Body>(behind _: Body.Type) -> AttributeSequence {
        AttributeSequence(
            from: mnl_nlmsg_get_payload_offset(header, MemoryLayout<Body>.size), to: mnl_nlmsg_get_payload_tail(header))
    }
}

/// Attributes that lie one behind the other; going through them allocates nothing.
struct AttributeSequence: Sequence, IteratorProtocol {
    private var position: UnsafePointer<nlattr>?
    private let end: UnsafeRawPointer?

    init(from start: UnsafeRawPointer?, to end: UnsafeRawPointer?) {
        position = start?.assumingMemoryBound(to: nlattr.self)
        self.end = end
    }

    mutating func next() -> Attribute? {
        guard let pointer = position, let end, mnl_attr_ok(pointer, Int32(end - UnsafeRawPointer(pointer)))
        else { return nil }
        position = UnsafePointer(mnl_attr_next(pointer))
        return Attribute(pointer: pointer)
    }

    /// By number; of attributes with the same number the last one.
    var byType: [Int: Attribute] { Dictionary(map { ($0.type, $0) }) { $1 } }
}

struct Attribute {
    let pointer: UnsafePointer<nlattr>

    /// Without the flags NLA_F_NESTED and NLA_F_NET_BYTEORDER.
    var type: Int { Int(mnl_attr_get_type(pointer)) }

    /// The payload in the datagram itself.
    var payload: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            start: mnl_attr_get_payload(pointer), count: Int(mnl_attr_get_payload_len(pointer)))
    }

    var bytes: [UInt8] { Array(payload) }

    /// Up to the first zero.
    var text: String { String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) }

    /// The payload as a number in the byte order of the host, at most eight bytes of it.
    var number: Int {
        bytes.prefix(8).enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
    }

    /// The payload as a number in network byte order, at most its first eight bytes.
    var bigEndianNumber: Int { payload.prefix(8).reduce(0) { $0 << 8 | Int($1) } }

    var address: IPAddress? { IPAddress(payload) }

    var nested: [(Int, Attribute)] { nestedSequence.map { ($0.type, $0) } }

    /// The same without an array.
    var nestedSequence: AttributeSequence {
        AttributeSequence(from: payload.baseAddress, to: payload.baseAddress.map { $0 + payload.count })
    }
}
