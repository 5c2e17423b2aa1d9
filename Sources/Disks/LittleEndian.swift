/// A little-endian on-disk structure, assembled field by field.
public struct LittleEndian {
    public private(set) var bytes: [UInt8] = []

    public init() {}

    public mutating func put<Value: FixedWidthInteger>(_ value: Value) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    public mutating func put(_ more: some Sequence<UInt8>) { bytes.append(contentsOf: more) }

    /// Appends zeros up to a total size of `count` bytes.
    public mutating func pad(to count: Int) {
        if bytes.count < count { bytes.append(contentsOf: repeatElement(0, count: count - bytes.count)) }
    }
}

extension [UInt8] {
    /// The little-endian integer at `offset`; nil when it would reach beyond the end.
    public func integer<Value: FixedWidthInteger>(at offset: Int, _: Value.Type) -> Value? {
        let size = MemoryLayout<Value>.size
        guard offset >= 0, offset <= count - size else { return nil }
        return withUnsafeBytes { Value(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Value.self)) }
    }

    /// Overwrites the little-endian integer at `offset`.
    public mutating func put<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
        let bytes = Swift.withUnsafeBytes(of: value.littleEndian, Array.init)
        replaceSubrange(offset..<offset + bytes.count, with: bytes)
    }
}

extension Int {
    /// The next multiple of `unit`, or the number itself when it is one.
    public func rounded(upTo unit: Int) -> Int { (self + unit - 1) / unit * unit }
}
