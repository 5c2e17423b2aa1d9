import Digests
import Files

/// The order of blocks in a root filesystem with its dm-verity tree: data, the superblock, then the
/// levels of the tree from the top down to the hashes of data blocks (kernel:
/// `Documentation/admin-guide/device-mapper/verity.rst`).
public struct VerityLayout: Sendable, Hashable {
    /// Bytes of every block.
    public static let blockSize = 4096
    private static let hashesInBlock = blockSize / Digest.size

    public let dataBlocks: Int
    public let salt: [UInt8]
    /// The blocks of each level of the tree; the first level has the hashes of data blocks.
    public let levels: [Range<Int>]

    public var superblock: Int { dataBlocks }
    /// The number of all blocks: data, superblock and tree.
    public var blocks: Int { levels.first?.upperBound ?? dataBlocks + 1 }

    public init(dataBlocks: Int, salt: [UInt8]) {
        self.dataBlocks = dataBlocks
        self.salt = salt
        var counts: [Int] = []
        var below = dataBlocks
        repeat {
            below = (below + Self.hashesInBlock - 1) / Self.hashesInBlock
            counts.append(below)
        } while below > 1
        var (levels, start): ([Range<Int>], Int) = ([], dataBlocks + 1)
        for count in counts.reversed() {
            levels.append(start..<start + count)
            start += count
        }
        self.levels = levels.reversed()
    }

    /// Computes the layout of a file from its size and its superblock.
    ///
    /// - Parameter read: returns a block by its number.
    /// - Throws: ``UpdateFailure`` for a file that is not a root with a tree.
    public init(name: String, bytes: Int, read: (Int) throws(UpdateFailure) -> [UInt8]) throws(UpdateFailure) {
        let total = bytes / Self.blockSize
        // Find the number of data blocks that results in this total.
        var (low, high) = (1, max(1, total))
        while low < high {
            let middle = (low + high) / 2
            if VerityLayout(dataBlocks: middle, salt: []).blocks < total { low = middle + 1 } else { high = middle }
        }
        guard bytes % Self.blockSize == 0, VerityLayout(dataBlocks: low, salt: []).blocks == total else {
            throw UpdateFailure(
                .malformed, name, "\(bytes) bytes are not the size of a file system with a dm-verity tree")
        }
        let block = try read(low)
        func number(_ offset: Int, _ size: Int) -> Int {
            block[offset..<offset + size].reversed().reduce(0) { $0 << 8 | Int($1) }
        }
        guard block.count == Self.blockSize, block.starts(with: Array("verity\0\0".utf8)), number(8, 4) == 1,
            number(12, 4) == 1, number(64, 4) == Self.blockSize, number(68, 4) == Self.blockSize,
            block[79] < 128, number(72, 8) == low, number(80, 2) <= 256
        else { throw UpdateFailure(.malformed, name, "no dm-verity superblock for blocks of 4 KiB behind the data") }
        self.init(dataBlocks: low, salt: Array(block[88..<88 + number(80, 2)]))
    }

    /// The layout of a root in a file.
    public init(file: File) throws {
        try self.init(name: file.path, bytes: Int(file.status().st_size)) { (block: Int) throws(UpdateFailure) in
            do { return try file.read(Self.blockSize, at: block * Self.blockSize) } catch {
                throw UpdateFailure(.storage, file.path, "\(error)")
            }
        }
    }

    /// A block's salted hash, as in the tree.
    public func hash(_ block: [UInt8]) -> Digest {
        var hash = SHA256()
        hash.update(salt)
        hash.update(block)
        return hash.finish()
    }

    /// The blocks below a block of the tree, with their hashes.
    func children(of block: Int, level: Int, _ bytes: [UInt8]) -> [(block: Int, hash: Digest)] {
        let below = level == 0 ? 0..<dataBlocks : levels[level - 1]
        let first = (block - levels[level].lowerBound) * Self.hashesInBlock
        let count = min(Self.hashesInBlock, below.count - first)
        return (0..<max(0, count)).map { i in
            (below.lowerBound + first + i, Digest(bytes: Array(bytes[i * Digest.size..<(i + 1) * Digest.size])))
        }
    }
}
