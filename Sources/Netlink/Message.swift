import Addresses
import CMnl
import Glibc

/// A request while it is written: header, the fixed part of its kind, attributes.
///
/// The buffer grows with the attributes. An attribute that would take the message past 64 KiB
/// throws EMSGSIZE, so that no request is sent without one of its attributes.
struct Message {
    /// What the request is about, for an error.
    let subject: String
    private let storage: Storage
    var header: UnsafeMutablePointer<nlmsghdr> { storage.header }

    private final class Storage {
        var buffer: UnsafeMutableRawPointer
        var header: UnsafeMutablePointer<nlmsghdr>
        var capacity = 1024

        init() {
            buffer = .allocate(byteCount: capacity, alignment: 8)
            header = mnl_nlmsg_put_header(buffer)
        }

        func grow() {
            let larger = UnsafeMutableRawPointer.allocate(byteCount: 2 * capacity, alignment: 8)
            larger.copyMemory(from: buffer, byteCount: Int(header.pointee.nlmsg_len))
            buffer.deallocate()
            buffer = larger
            header = larger.assumingMemoryBound(to: nlmsghdr.self)
            capacity *= 2
        }

        deinit { buffer.deallocate() }
    }

    /// The length of an attribute is 16 bits wide (`struct nlattr` of linux/netlink.h), and a
    /// nested one may span nearly all of the message.
    static let largest = 1 << 16

    /// - Parameter body: the fixed part, such as an `ifinfomsg`; at most some dozen bytes.
    init<Body>(_ type: Int, flags: Int32 = 0, _ body: Body, about subject: String) {
        self.subject = subject
        storage = Storage()
        header.pointee.nlmsg_type = UInt16(truncatingIfNeeded: type)
        header.pointee.nlmsg_flags = UInt16(NLM_F_REQUEST | flags)
        let room = mnl_nlmsg_put_extra_header(header, MemoryLayout<Body>.size)
        room?.storeBytes(of: body, as: Body.self)
    }

    var length: Int { Int(header.pointee.nlmsg_len) }

    /// Has `write` put an attribute, in a larger buffer where the present one is full.
    private func put(
        _ type: Int, _ write: (UnsafeMutablePointer<nlmsghdr>, Int) -> Bool
    ) throws(NetlinkError) {
        while !write(header, storage.capacity) {
            guard storage.capacity < Self.largest else {
                throw NetlinkError(
                    subject, code: EMSGSIZE,
                    message: "attribute \(type) takes the request past 64 KiB; use fewer or shorter values")
            }
            storage.grow()
        }
    }

    func put(_ type: Int, _ bytes: [UInt8]) throws(NetlinkError) {
        try put(type) { mnl_attr_put_check($0, $1, UInt16(type), bytes.count, bytes) }
    }

    /// A text with the zero byte that ends it (NLA_NUL_STRING).
    func put(_ type: Int, _ text: String) throws(NetlinkError) { try put(type, Array(text.utf8) + [0]) }

    func put(_ type: Int, _ number: UInt8) throws(NetlinkError) {
        try put(type) { mnl_attr_put_u8_check($0, $1, UInt16(type), number) }
    }

    func put(_ type: Int, _ number: UInt16) throws(NetlinkError) {
        try put(type) { mnl_attr_put_u16_check($0, $1, UInt16(type), number) }
    }

    func put(_ type: Int, _ number: UInt32) throws(NetlinkError) {
        try put(type) { mnl_attr_put_u32_check($0, $1, UInt16(type), number) }
    }

    func put(_ type: Int, _ number: UInt64) throws(NetlinkError) {
        try put(type) { mnl_attr_put_u64_check($0, $1, UInt16(type), number) }
    }

    /// Attributes within an attribute (NLA_F_NESTED).
    func nest(_ type: Int, _ body: () throws(NetlinkError) -> Void) throws(NetlinkError) {
        let start = length
        try put(type) { mnl_attr_nest_start_check($0, $1, UInt16(type)) != nil }
        try body()
        // The buffer may have moved since the start.
        let attribute = UnsafeMutableRawPointer(header) + start
        mnl_attr_nest_end(header, attribute.assumingMemoryBound(to: nlattr.self))
    }

    /// Link-specific attributes, nested ones included.
    func put(_ attributes: [LinkAttribute]) throws(NetlinkError) {
        for attribute in attributes {
            if case .nested(let inner) = attribute.value {
                try nest(attribute.number) { () throws(NetlinkError) in try put(inner) }
            } else {
                try put(attribute.number, attribute.payload)
            }
        }
    }
}
