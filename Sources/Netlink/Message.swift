import Addresses
import CMnl
import Glibc

/// A request while it is written: header, the fixed part of its kind, attributes.
struct Message {
    private let storage: Storage
    var header: UnsafeMutablePointer<nlmsghdr> { storage.header }

    private final class Storage {
        let buffer: UnsafeMutableRawPointer
        let header: UnsafeMutablePointer<nlmsghdr>

        init() {
            buffer = .allocate(byteCount: Message.capacity, alignment: 8)
            header = mnl_nlmsg_put_header(buffer)
        }

        deinit { buffer.deallocate() }
    }

    private static let capacity = 8192

    /// - Parameter body: the fixed part, such as an `ifinfomsg`.
    init<Body>(_ type: Int, flags: Int32 = 0, _ body: Body) {
        storage = Storage()
        header.pointee.nlmsg_type = UInt16(truncatingIfNeeded: type)
        header.pointee.nlmsg_flags = UInt16(NLM_F_REQUEST | flags)
        let room = mnl_nlmsg_put_extra_header(header, MemoryLayout<Body>.size)
        room?.storeBytes(of: body, as: Body.self)
    }

    var length: Int { Int(header.pointee.nlmsg_len) }

    /// A text beyond the buffer is cut off with the message: names are short, and checked before.
    func put(_ type: Int, _ text: String) {
        mnl_attr_put_check(header, Self.capacity, UInt16(type), text.utf8.count + 1, Array(text.utf8) + [0])
    }

    func put(_ type: Int, _ bytes: [UInt8]) {
        mnl_attr_put_check(header, Self.capacity, UInt16(type), bytes.count, bytes)
    }

    func put(_ type: Int, _ number: UInt32) { mnl_attr_put_u32_check(header, Self.capacity, UInt16(type), number) }
    func put(_ type: Int, _ number: UInt16) { mnl_attr_put_u16_check(header, Self.capacity, UInt16(type), number) }
    func put(_ type: Int, _ number: UInt8) { mnl_attr_put_u8_check(header, Self.capacity, UInt16(type), number) }

    /// Attributes within an attribute.
    func nest(_ type: Int, _ body: () -> Void) {
        guard let start = mnl_attr_nest_start_check(header, Self.capacity, UInt16(type)) else { return }
        body()
        mnl_attr_nest_end(header, start)
    }
}

/// An answer: the attributes behind its fixed part, by number.
struct Answer {
    let header: UnsafePointer<nlmsghdr>

    var type: Int { Int(header.pointee.nlmsg_type) }

    func body<Body>(_: Body.Type) -> Body {
        mnl_nlmsg_get_payload(header).loadUnaligned(as: Body.self)
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

    /// In host order; shorter ones are filled up.
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
