import CMnl

/// An attribute of a link's kind, as it stands in IFLA_INFO_DATA (linux/if_link.h).
///
/// Two attributes are equal when the kernel cannot tell them apart: number and payload count, the
/// way it was written does not. So a wanted `.u32` equals the `.bytes` of a dump.
public struct LinkAttribute: Sendable, Hashable {
    /// A payload; numbers are in the byte order of the host.
    public enum Value: Sendable {
        case u8(UInt8)
        case u16(UInt16)
        case u32(UInt32)
        case u64(UInt64)
        case bytes([UInt8])
        /// A text that ends with a zero byte on the wire.
        case text(String)
        case nested([LinkAttribute])
    }

    /// Its number within the kind, such as IFLA_VLAN_ID.
    public var number: Int
    /// Of an attribute that the kernel reported: `.bytes`.
    public var value: Value

    public init(_ number: Int, _ value: Value) {
        self.number = number
        self.value = value
    }

    /// The payload as the kernel sees it, without the attribute's head.
    public var payload: [UInt8] {
        switch value {
        case .u8(let number): [number]
        case .u16(let number): Self.bytes(number)
        case .u32(let number): Self.bytes(number)
        case .u64(let number): Self.bytes(number)
        case .bytes(let bytes): bytes
        case .text(let text): Array(text.utf8) + [0]
        case .nested(let attributes): Self.encode(attributes)
        }
    }

    /// The payload as an unsigned number of 1, 2, 4 or 8 bytes; nil for another length.
    public var unsigned: UInt64? {
        let bytes = payload
        guard [1, 2, 4, 8].contains(bytes.count) else { return nil }
        return bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// The payload as text, up to the first zero byte.
    public var text: String { String(decoding: payload.prefix { $0 != 0 }, as: UTF8.self) }

    /// The payload as attributes; empty when it holds none.
    public var nested: [LinkAttribute] { Self.decode(payload) }

    public static func == (left: LinkAttribute, right: LinkAttribute) -> Bool {
        left.number == right.number && left.payload == right.payload
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(number)
        hasher.combine(payload)
    }

    private static func bytes(_ number: some FixedWidthInteger) -> [UInt8] {
        withUnsafeBytes(of: number) { Array($0) }
    }

    /// `struct nlattr` of linux/netlink.h: length and number in 16 bits each, the payload, padding
    /// to four bytes.
    static func encode(_ attributes: [LinkAttribute]) -> [UInt8] {
        attributes.flatMap { attribute -> [UInt8] in
            let payload = attribute.payload
            let head = bytes(UInt16(clamping: 4 + payload.count)) + bytes(UInt16(truncatingIfNeeded: attribute.number))
            return head + payload + [UInt8](repeating: 0, count: -payload.count & 3)
        }
    }

    static func decode(_ bytes: [UInt8]) -> [LinkAttribute] {
        bytes.withUnsafeBytes { buffer in
            guard let start = buffer.baseAddress else { return [] }
            return AttributeSequence(from: start, to: start + buffer.count).map { LinkAttribute($0.type, $0) }
        }
    }

    init(_ number: Int, _ attribute: Attribute) { self.init(number, .bytes(attribute.bytes)) }
}

extension [LinkAttribute] {
    /// The first attribute of a number.
    public subscript(attribute number: Int) -> LinkAttribute? { first { $0.number == number } }

    /// The wanted attributes that a link does not have so: what is left to be changed on it.
    ///
    /// Attributes that only the kernel reports do not count, since it fills in its defaults.
    public func missing(from present: [LinkAttribute]) -> [LinkAttribute] { filter { !present.contains($0) } }
}
