import Glibc

/// Bytes that are read and written at places: a file, a part of a disk, what is to become a file.
public protocol RandomAccess {
    /// For errors.
    var path: String { get }
    /// Up to `count` bytes from `offset`; fewer only at the end.
    func read(_ count: Int, at offset: Int) throws(SystemError) -> [UInt8]
    func write(_ bytes: [UInt8], at offset: Int) throws(SystemError)
    /// Waits until all that was written is on the disk.
    func sync() throws(SystemError)
}

extension File: RandomAccess {}

/// A range of something larger, such as a partition of a disk.
public struct Extract: RandomAccess {
    private let whole: any RandomAccess
    private let range: Range<Int>

    /// - Parameter range: bytes.
    public init(_ whole: any RandomAccess, _ range: Range<Int>) { (self.whole, self.range) = (whole, range) }

    public var path: String { whole.path }

    public func read(_ count: Int, at offset: Int) throws(SystemError) -> [UInt8] {
        try whole.read(max(0, min(count, range.count - offset)), at: range.lowerBound + offset)
    }

    public func write(_ bytes: [UInt8], at offset: Int) throws(SystemError) {
        guard offset >= 0, offset + bytes.count <= range.count else { throw SystemError("pwrite", path, code: ENOSPC) }
        try whole.write(bytes, at: range.lowerBound + offset)
    }

    public func sync() throws(SystemError) { try whole.sync() }
}
