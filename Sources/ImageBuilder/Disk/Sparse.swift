import CSystem
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

    /// Extents that hold at least one byte that isn't zero, cut at multiples of `unit` bytes, in order.
    ///
    /// What the file system says about holes only saves reading: two files with the same bytes give the same extents,
    /// however they were written.
    public static func extents(of file: File, unit: Int) throws -> [Extent] {
        let size = Int(try file.status().st_size)
        var extents: [Extent] = []
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
                for start in stride(from: 0, to: bytes.count, by: unit) {
                    let part = bytes[start..<min(start + unit, bytes.count)]
                    if isZero(part) { continue }
                    if let last = extents.last, last.offset + last.count == position + start {
                        extents[extents.count - 1].count += part.count
                    } else {
                        extents.append(Extent(offset: position + start, count: part.count))
                    }
                }
                position += bytes.count
            }
        }
        return extents
    }

    private static func isZero(_ bytes: ArraySlice<UInt8>) -> Bool {
        bytes.withUnsafeBytes { buffer in
            guard let start = buffer.baseAddress, buffer.count > 0 else { return true }
            // Zero when the first byte is and every byte equals the one before it.
            return buffer[0] == 0 && memcmp(start, start + 1, buffer.count - 1) == 0
        }
    }
}
