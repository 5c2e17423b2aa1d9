/// An attribute of a link's type (IFLA_INFO_DATA), by its number in linux/if_link.h.
public struct LinkOption: Sendable, Hashable {
    public enum Value: Sendable, Hashable {
        case u8(UInt8)
        case u16(UInt16)
        case u32(UInt32)
        /// In network byte order.
        case big16(UInt16)
        case bytes([UInt8])
        case nested([LinkOption])
    }

    public var number: Int
    public var value: Value
    /// The kernel does not change it on a link that exists: the link is made anew.
    public var isFixed: Bool

    public init(_ number: Int, _ value: Value, isFixed: Bool = false) {
        self.number = number
        self.value = value
        self.isFixed = isFixed
    }
}
