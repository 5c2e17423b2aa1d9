import Digests
import Disks
import Files

/// A dm-verity hash tree behind a file system (kernel:
/// `Documentation/admin-guide/device-mapper/verity.rst`). The superblock is that of veritysetup(8),
/// which can verify the tree.
public struct Verity: Sendable, Hashable {
    /// Bytes of a data block and of a hash block.
    public static let blockSize = 4096

    /// 32 bytes, mixed into every hash.
    public var salt: [UInt8]
    /// Blocks of data, which the tree covers.
    public var dataBlocks: Int
    public var rootHash: Digest
    /// Bytes of data, superblock and tree together.
    public var totalSize: Int

    /// Reads `size` bytes of `file` from `offset`, and writes superblock and tree after them.
    ///
    /// - Parameters:
    ///   - size: of the data in bytes, a multiple of the block size.
    ///   - salt: 32 bytes, constant for a product: a new salt in each release would change all
    ///     hashes.
    public static func append(to file: File, at offset: Int, size: Int, salt: [UInt8]) async throws -> Verity {
        var levels: [[UInt8]] = []
        levels.append(try await hashBlocks(of: file, at: offset, size: size, salt: salt))
        while levels[levels.count - 1].count > blockSize {
            let below = levels[levels.count - 1]
            var level: [UInt8] = []
            for start in stride(from: 0, to: below.count, by: blockSize) {
                level += hash(below[start..<min(start + blockSize, below.count)], salt: salt).bytes
            }
            levels.append(level)
        }
        let root = hash(levels[levels.count - 1][...], salt: salt)
        // The Discoverable Partitions Specification derives the UUID of a root's partition in this
        // way. It identifies each of a box's two roots before one of them is mapped.
        var bytes = superblock(dataBlocks: size / blockSize, salt: salt, uuid: Array(root.bytes.prefix(16)))
        for level in levels.reversed() {
            bytes += level
            bytes += [UInt8](repeating: 0, count: bytes.count.rounded(upTo: blockSize) - bytes.count)
        }
        try file.write(bytes, at: offset + size)
        return Verity(salt: salt, dataBlocks: size / blockSize, rootHash: root, totalSize: size + bytes.count)
    }

    /// The hashes of all data blocks in order, computed in parallel.
    private static func hashBlocks(of file: File, at offset: Int, size: Int, salt: [UInt8]) async throws -> [UInt8] {
        let share = 16 << 20
        return try await withThrowingTaskGroup(of: (Int, [UInt8]).self) { group in
            for start in stride(from: 0, to: size, by: share) {
                group.addTask {
                    let data = try file.read(min(share, size - start), at: offset + start)
                    var hashes: [UInt8] = []
                    for block in stride(from: 0, to: data.count, by: blockSize) {
                        hashes += hash(data[block..<min(block + blockSize, data.count)], salt: salt).bytes
                    }
                    return (start, hashes)
                }
            }
            var parts: [(Int, [UInt8])] = []
            for try await part in group { parts.append(part) }
            return parts.sorted { $0.0 < $1.0 }.flatMap(\.1)
        }
    }

    /// The hash of salt and block; a short block is padded with zeros.
    private static func hash(_ block: ArraySlice<UInt8>, salt: [UInt8]) -> Digest {
        var hash = SHA256()
        hash.update(salt)
        hash.update(block)
        if block.count < blockSize { hash.update([UInt8](repeating: 0, count: blockSize - block.count)) }
        return hash.finish()
    }

    private static func superblock(dataBlocks: Int, salt: [UInt8], uuid: [UInt8]) -> [UInt8] {
        var bytes = LittleEndian()
        bytes.put(Array("verity\0\0".utf8))
        bytes.put(UInt32(1))  // version of the superblock
        bytes.put(UInt32(1))  // hash type: salt first
        bytes.put(uuid)
        bytes.put(Array("sha256".utf8))
        bytes.pad(to: 64)
        bytes.put(UInt32(blockSize))
        bytes.put(UInt32(blockSize))
        bytes.put(UInt64(dataBlocks))
        bytes.put(UInt16(salt.count))
        bytes.pad(to: 88)
        bytes.put(salt)
        bytes.pad(to: blockSize)
        return bytes.bytes
    }
}
