import CSystem
import Digests
import Disks
import Files
import Glibc

/// The parts of a sparse file that hold data.
public enum Sparse {
    public struct Extent: Sendable, Hashable {
        /// Bytes from the start of the file.
        public var offset: Int
        /// Bytes.
        public var count: Int
    }

    /// Extents that hold at least one byte that isn't zero, cut at multiples of `unit` bytes, in
    /// order.
    ///
    /// The holes that the file system reports only save reading: two files with the same bytes give
    /// the same extents, however they were written.
    public static func extents(of file: File, unit: Int) throws -> [Extent] {
        var extents: [Extent] = []
        try forEachBlock(of: file, unit: unit) { offset, block in
            if let last = extents.last, last.offset + last.count == offset {
                extents[extents.count - 1].count += block.count
            } else {
                extents.append(Extent(offset: offset, count: block.count))
            }
        }
        return extents
    }

    /// The digest of a file's size and of every block that isn't zero, with its offset. Of a disk
    /// image of several GB only the data is read. Two files have the same digest exactly when their
    /// bytes are equal.
    ///
    /// SHA-256 of: the size (64 bits, little-endian); then for each block of 64 KiB that holds a
    /// byte that isn't zero, its offset (64 bits, little-endian) and its bytes.
    public static func digest(of file: File) throws -> Digest {
        func number(_ value: Int) -> [UInt8] {
            var bytes = LittleEndian()
            bytes.put(UInt64(value))
            return bytes.bytes
        }
        var hash = SHA256()
        hash.update(number(Int(try file.status().st_size)))
        try forEachBlock(of: file, unit: 1 << 16) { offset, block in
            hash.update(number(offset))
            hash.update(block)
        }
        return hash.finish()
    }

    /// Every block of `unit` bytes that isn't all zeros, in order; the last one may be shorter.
    private static func forEachBlock(of file: File, unit: Int, _ body: (Int, ArraySlice<UInt8>) -> Void) throws {
        let size = Int(try file.status().st_size)
        var position = 0
        while position < size {
            let data = lseek(file.descriptor, off_t(position), csystem_seek_data)
            if data < 0 {
                if errno == ENXIO { break }
                throw SystemError("lseek", file.path)
            }
            let hole = lseek(file.descriptor, data, csystem_seek_hole)
            guard hole >= 0 else { throw SystemError("lseek", file.path) }
            let end = min(size, Int(hole).rounded(upTo: unit))
            position = max(position, Int(data) / unit * unit)
            while position < end {
                let bytes = try file.read(min(1 << 20, end - position), at: position)
                guard !bytes.isEmpty else { throw SystemError("read", file.path, code: ENODATA) }
                for start in stride(from: 0, to: bytes.count, by: unit) {
                    let part = bytes[start..<min(start + unit, bytes.count)]
                    if !isZero(part) { body(position + start, part) }
                }
                position += bytes.count
            }
        }
    }

    private static func isZero(_ bytes: ArraySlice<UInt8>) -> Bool {
        bytes.withUnsafeBytes { buffer in
            guard let start = buffer.baseAddress, buffer.count > 0 else { return true }
            // Zero when the first byte is and every byte equals the one before it.
            return buffer[0] == 0 && memcmp(start, start + 1, buffer.count - 1) == 0
        }
    }
}
