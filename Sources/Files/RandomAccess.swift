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
