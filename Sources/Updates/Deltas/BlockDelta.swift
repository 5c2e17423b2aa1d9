import Digests
import Files

/// Makes a root or a UKI from any other one, block by block. The dm-verity tree of the new file has
/// the hashes of its blocks, from the top down. Blocks that the box lacks are fetched from one file
/// that contains each block, compressed separately.
///
/// Nothing in that file is trusted: every block must match its hash in the tree, whose root hash is
/// signed. Blocks that are in the slot already, or anywhere in the running root, are not fetched,
/// so an interrupted run continues where it stopped.
public struct BlockDelta {
    /// The first bytes of the file. The number of blocks (4 bytes, little-endian), the compressed
    /// size of each block (2 bytes each) and the blocks follow. A block that compression does not
    /// shrink is stored uncompressed.
    public static let magic = Array("vcpeblk1".utf8)
    /// The largest request in bytes, and the largest gap between two blocks that is fetched to save
    /// a request.
    private static let (mostBytes, widestGap) = (1 << 20, 8 << 10)

    private let name: String
    private let source: any DeltaSource
    private let layout: VerityLayout
    private let rootHash: Digest
    private let superblock: [UInt8]
    /// Offsets at which the blocks begin, and at which the last one ends.
    private var offsets: [Int] = []
    public private(set) var cost = DeltaCost()

    /// - Parameters:
    ///   - name: the file's name, for errors.
    ///   - bytes: the size of the new root.
    ///   - rootHash: the signed root hash.
    public init(
        name: String, source: any DeltaSource, bytes: Int, rootHash: Digest
    ) throws(UpdateFailure) {
        self.name = name
        self.source = source
        self.rootHash = rootHash
        let count = bytes / VerityLayout.blockSize
        let head = Self.magic.count + 4 + 2 * count
        let table = try source.read(0..<head)
        guard table.starts(with: Self.magic),
            table[8..<12].reversed().reduce(0, { $0 << 8 | Int($1) }) == count
        else { throw UpdateFailure(.malformed, name, "it does not hold \(count) blocks, the signed number") }
        var offset = head
        var offsets: [Int] = []
        for i in 0..<count {
            offsets.append(offset)
            offset += Int(table[12 + 2 * i]) | Int(table[13 + 2 * i]) << 8
        }
        offsets.append(offset)
        self.offsets = offsets
        // A wrong superblock has a wrong salt, and then no block matches its hash.
        let held = offsets
        var kept: [UInt8] = []
        layout = try VerityLayout(name: name, bytes: bytes) { (block: Int) throws(UpdateFailure) in
            kept = try Self.decompress(source.read(held[block]..<held[block + 1]), name, block)
            return kept
        }
        superblock = kept
        cost.fetched = head + offsets[layout.superblock + 1] - offsets[layout.superblock]
        cost.requests = 2
    }

    private static func decompress(_ bytes: [UInt8], _ name: String, _ block: Int) throws(UpdateFailure) -> [UInt8] {
        if bytes.count == VerityLayout.blockSize { return bytes }
        guard let block = Zstandard.decompress(bytes, size: VerityLayout.blockSize) else {
            throw UpdateFailure(.malformed, name, "block \(block) does not decompress")
        }
        return block
    }

    /// The data that the box already has.
    public enum Base {
        /// A root with its tree, which has the hash of each block.
        case root(any RandomAccess, VerityLayout)
        /// A file without a tree: all of its bytes are hashed.
        case plain(any RandomAccess, bytes: Int)
        case none
    }

    /// Writes the new file into a slot.
    ///
    /// - Parameters:
    ///   - slot: the inactive slot, with any contents.
    ///   - base: the running root, or the UKI that booted it.
    ///   - most: the largest number of bytes to fetch.
    /// - Returns: false if more bytes are needed; then the slot is incomplete.
    @discardableResult public mutating func install(
        into slot: any RandomAccess, from base: Base, most: Int = .max
    ) throws(UpdateFailure) -> Bool {
        let layout = layout
        var (known, old): ([Digest: Int], (any RandomAccess)?) = ([:], nil)
        switch base {
        case .root(let file, let its) where its.salt == layout.salt: (known, old) = (try Self.index(file, its), file)
        case .root(let file, let its):
            (known, old) = (try index(plain: file, its.blocks * VerityLayout.blockSize), file)
        case .plain(let file, let bytes): (known, old) = (try index(plain: file, bytes), file)
        case .none: break
        }
        try write(superblock, layout.superblock, slot)
        var needed: [(block: Int, hash: Digest)] = [(layout.levels[layout.levels.count - 1].lowerBound, rootHash)]
        // The tree from its top down; data blocks come last.
        for level in stride(from: layout.levels.count - 1, through: -1, by: -1) {
            var next: [(block: Int, hash: Digest)] = []
            let missing = try copyPresent(
                Dictionary(uniqueKeysWithValues: needed.map { ($0.block, $0.hash) }), slot, old, known
            ) { block, bytes in
                if level >= 0 { next += layout.children(of: block, level: level, bytes) }
            }
            let bytes = missing.reduce(0) { $0 + offsets[$1.block + 1] - offsets[$1.block] }
            guard cost.fetched + bytes <= most else { return false }
            try fetch(missing, slot) { block, bytes in
                if level >= 0 { next += layout.children(of: block, level: level, bytes) }
            }
            needed = next
        }
        do { try slot.sync() } catch { throw UpdateFailure(.storage, name, "\(error)") }
        return true
    }

    /// The blocks of a root, by hash.
    private static func index(_ file: any RandomAccess, _ layout: VerityLayout) throws(UpdateFailure) -> [Digest: Int] {
        var known: [Digest: Int] = [:]
        for (level, blocks) in layout.levels.enumerated() {
            for block in blocks {
                for child in layout.children(of: block, level: level, try read(file, block)) {
                    known[child.hash] = child.block
                }
            }
        }
        return known
    }

    private func index(plain file: any RandomAccess, _ bytes: Int) throws(UpdateFailure) -> [Digest: Int] {
        var known: [Digest: Int] = [:]
        for block in 0..<(bytes + VerityLayout.blockSize - 1) / VerityLayout.blockSize {
            known[layout.hash(try Self.read(file, block))] = block
        }
        return known
    }

    private static func read(_ file: any RandomAccess, _ block: Int) throws(UpdateFailure) -> [UInt8] {
        do {
            let bytes = try file.read(VerityLayout.blockSize, at: block * VerityLayout.blockSize)
            // The last block of a file may be shorter.
            return bytes + [UInt8](repeating: 0, count: VerityLayout.blockSize - bytes.count)
        } catch {
            throw UpdateFailure(.storage, file.path, "\(error)")
        }
    }

    /// Copies blocks that the box has into the slot, and calls `done` with each.
    ///
    /// - Parameter blocks: hashes by block number.
    /// - Returns: the missing blocks, in order.
    private mutating func copyPresent(
        _ blocks: [Int: Digest], _ slot: any RandomAccess, _ old: (any RandomAccess)?, _ known: [Digest: Int],
        done: (Int, [UInt8]) -> Void
    ) throws(UpdateFailure) -> [(block: Int, hash: Digest)] {
        var missing: [(block: Int, hash: Digest)] = []
        for (block, hash) in blocks.sorted(by: { $0.key < $1.key }) {
            let present = try Self.read(slot, block)
            if layout.hash(present) == hash {
                cost.kept += 1
                done(block, present)
                continue
            }
            if let old, let source = known[hash] {
                let bytes = try Self.read(old, source)
                // The old root, or its tree, may be damaged on the disk.
                if layout.hash(bytes) == hash {
                    try write(bytes, block, slot)
                    cost.kept += 1
                    done(block, bytes)
                    continue
                }
            }
            missing.append((block, hash))
        }
        return missing
    }

    /// Fetches blocks into the slot; `done` is called with each.
    private mutating func fetch(
        _ missing: [(block: Int, hash: Digest)], _ slot: any RandomAccess, done: (Int, [UInt8]) -> Void
    ) throws(UpdateFailure) {
        var start = 0
        while start < missing.count {
            var end = start + 1
            while end < missing.count,
                offsets[missing[end].block] - offsets[missing[end - 1].block + 1] <= Self.widestGap,
                offsets[missing[end].block + 1] - offsets[missing[start].block] <= Self.mostBytes
            { end += 1 }
            let range = offsets[missing[start].block]..<offsets[missing[end - 1].block + 1]
            let bytes = try source.read(range)
            cost.fetched += bytes.count
            cost.requests += 1
            for (block, hash) in missing[start..<end] {
                let part = Array(bytes[offsets[block] - range.lowerBound..<offsets[block + 1] - range.lowerBound])
                let contents = try Self.decompress(part, name, block)
                guard layout.hash(contents) == hash else {
                    throw UpdateFailure(.mismatch, name, "block \(block) does not have the signed hash")
                }
                try write(contents, block, slot)
                done(block, contents)
            }
            start = end
        }
    }

    private func write(_ bytes: [UInt8], _ block: Int, _ slot: any RandomAccess) throws(UpdateFailure) {
        do { try slot.write(bytes, at: block * VerityLayout.blockSize) } catch {
            throw UpdateFailure(.storage, slot.path, "\(error)")
        }
    }
}
