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
        guard let tail = mnl_nlmsg_get_payload_tail(header),
            let start = mnl_nlmsg_get_payload_offset(header, MemoryLayout<Body>.size)
        else { return [:] }
        return Attribute.all(from: UnsafeRawPointer(start), to: UnsafeRawPointer(tail))
    }
}

struct Attribute {
    let pointer: UnsafePointer<nlattr>

    static func all(from start: UnsafeRawPointer, to end: UnsafeRawPointer) -> [Int: Attribute] {
        var result: [Int: Attribute] = [:]
        for (type, attribute) in list(from: start, to: end) { result[type] = attribute }
        return result
    }

    static func list(from start: UnsafeRawPointer, to end: UnsafeRawPointer) -> [(Int, Attribute)] {
        var result: [(Int, Attribute)] = []
        var next = start.assumingMemoryBound(to: nlattr.self)
        while mnl_attr_ok(next, Int32(end - UnsafeRawPointer(next))) {
            result.append((Int(mnl_attr_get_type(next)), Attribute(pointer: next)))
            guard let following = mnl_attr_next(next) else { break }
            next = UnsafePointer(following)
        }
        return result
    }

    var bytes: [UInt8] {
        guard let start = mnl_attr_get_payload(pointer) else { return [] }
        return Array(UnsafeRawBufferPointer(start: start, count: Int(mnl_attr_get_payload_len(pointer))))
    }

    /// Up to the first zero.
    var text: String { String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self) }

    /// The payload as a number in the byte order of the host, at most eight bytes of it.
    var number: Int {
        bytes.prefix(8).enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
    }

    var address: IPAddress? { IPAddress(bytes) }

    var nested: [(Int, Attribute)] {
        guard let start = mnl_attr_get_payload(pointer) else { return [] }
        return Attribute.list(
            from: UnsafeRawPointer(start), to: UnsafeRawPointer(start) + Int(mnl_attr_get_payload_len(pointer)))
    }
}
