import Checksums
import Digests
import Disks
import Files

/// Writes a ``Tree`` as an uncompressed EROFS (kernel: `fs/erofs/erofs_fs.h`), streaming file
/// contents from their sources.
///
/// Layout: superblock, file data in the order of the paths and each file on a block of its own,
/// then all inodes, then the blocks of large folders. A file that did not change keeps its bytes
/// and its alignment from release to release, so that updates share its blocks; inode numbers and
/// sizes, which always change, are together at the end. Small files, links and the ends of folders
/// are stored inline, after their inodes. There is one time stamp, in the superblock.
public struct EROFS {
    /// Bytes of a block.
    public static let blockSize = 4096
    /// Files up to this many bytes are stored inline, after their inode, instead of in a block.
    static let inlineLimit = 2048

    private static let superblockOffset = 1024

    private let tree: Tree
    private let time: Int64
    private let uuid: [UInt8]

    /// - Parameters:
    ///   - time: the modification time of every file, seconds since 1970.
    ///   - uuid: 16 bytes.
    public init(_ tree: Tree, time: Int64, uuid: [UInt8]) {
        self.tree = tree
        self.time = time
        self.uuid = uuid
    }

    /// Writes the file system into `file` from `offset`, a multiple of the block size.
    ///
    /// - Returns: its size in bytes, a multiple of the block size.
    /// - Throws: ``EROFSError`` for a tree that the format can't represent, ``DamagedContent`` for
    ///   a source whose bytes changed; also rethrows errors of reading and writing.
    public func write(to file: File, at offset: Int = 0) throws -> Int {
        var inodes = try EROFSInodes(tree)
        var nextBlock = 1
        // Adjacent files are mostly from the same package: only the last file stays open, however
        // many packages there are.
        var last: File?
        for index in inodes.all.indices {
            guard let content = inodes.all[index].content else { continue }
            if content.count <= Self.inlineLimit, inodes.fitsInline(index, content.count) {
                inodes.all[index].inline = try content.read()
                continue
            }
            inodes.all[index].firstBlock = nextBlock
            let target = offset + nextBlock * Self.blockSize
            switch content.source {
            case .bytes(let bytes): try file.write(bytes, at: target)
            case .range(let path, let start):
                let source = try last?.path == path ? last ?? File(path) : File(path)
                last = source
                try file.copy(from: source, at: start, count: content.count, to: target)
                // What was copied, and not what the source has now.
                let found = SHA256.hash(try file.read(content.count, at: target))
                guard found == content.digest else {
                    throw DamagedContent(
                        path: path, offset: start, count: content.count, expected: content.digest, found: found)
                }
            }
            nextBlock += content.count.rounded(upTo: Self.blockSize) / Self.blockSize
        }
        let metaBlock = nextBlock
        let metadata = inodes.metadata(from: metaBlock)
        let blocks = metaBlock + metadata.count / Self.blockSize
        try file.write(metadata, at: offset + metaBlock * Self.blockSize)
        try file.write(
            superblock(
                inodes: inodes.all.count, root: inodes.all[0].slot, blocks: blocks, metaBlock: metaBlock), at: offset)
        return blocks * Self.blockSize
    }

    private func superblock(inodes: Int, root: Int, blocks: Int, metaBlock: Int) -> [UInt8] {
        func build(checksum: UInt32) -> [UInt8] {
            var bytes = LittleEndian()
            bytes.put(UInt32(0xE0F5_E1E2))
            bytes.put(checksum)
            bytes.put(UInt32(1 | 2))  // compatible features: superblock checksum, mtime
            bytes.put(UInt8(12))  // log2 of the block size
            bytes.put(UInt8(0))
            bytes.put(UInt16(root))
            bytes.put(UInt64(inodes))
            bytes.put(time)
            bytes.put(UInt32(0))
            bytes.put(UInt32(blocks))
            bytes.put(UInt32(metaBlock))
            bytes.put(UInt32(0))  // no shared extended attributes
            bytes.put(uuid)
            bytes.pad(to: Self.blockSize - Self.superblockOffset)
            return bytes.bytes
        }
        let checksum = CRC32.castagnoliKernel(build(checksum: 0))
        return [UInt8](repeating: 0, count: Self.superblockOffset) + build(checksum: checksum)
    }
}

/// A tree that the format, or its compact inodes, can't represent.
public struct EROFSError: Error, Sendable, Hashable, CustomStringConvertible {
    public enum Reason: Sendable, Hashable {
        /// An owner's number, a file's size, a name's length or another number is above its limit.
        case limit
        /// An invalid path, or one whose parent is not a folder.
        case path
        /// A hard link whose target is not a file of the tree.
        case hardLink
        /// An extended attribute in a namespace that EROFS has no index for.
        case attribute
    }

    /// From the root, with a leading slash.
    public var path: String
    public var reason: Reason
    public var message: String

    public var description: String { "\(path): \(message)" }
}
