import Addresses
import Digests
import Documents
import Files
import Updates

extension PatchDelta {
    /// Writes a patch that makes one root from another.
    ///
    /// Both roots and all compressed frames are held in memory.
    ///
    /// - Parameters:
    ///   - old: the old root; nil for a patch that contains the whole new root.
    ///   - level: the compression level of zstd.
    ///   - mostIndex: the largest index that a box accepts, in bytes.
    /// - Returns: false if the index is larger; then no file is written. This happens to roots
    ///   above about 16 GiB, and to patches of more than about 58,000 ranges.
    @discardableResult public static func make(
        from old: File?, to new: File, path: String, level: Int32 = 19, mostIndex: Int = PatchDelta.mostIndex
    ) throws -> Bool {
        let matches = BlockMatches(of: try new.readAll(), to: try old?.readAll() ?? [])
        var frames: [Frame] = []
        var body: [UInt8] = []
        var start = 0
        while start < matches.blocks {
            // Estimate how many blocks fit after compression: new data is assumed to shrink to
            // half.
            var count = matches.count(from: start, new: 2 * mostCompressed, most: mostNew)
            while true {
                let ranges = matches.ranges(start..<start + count)
                // The old ranges exceed the limit, so use fewer blocks. Sixteen blocks always fit.
                if ranges.reduce(0, { $0 + $1.count }) > mostOld, count > 16 {
                    count = max(16, count / 2)
                    continue
                }
                var before: [UInt8] = []
                for range in ranges { before += matches.old[range] }
                let part = matches.new(start..<start + count)
                let compressed = Zstandard.compress(Array(matches.bytes[part]), after: before, level: level)
                if compressed.count > mostCompressed, count > 16 {
                    count = max(16, count / 2)
                    continue
                }
                frames.append(
                    Frame(
                        new: part, old: ranges, compressed: compressed.count,
                        digest: SHA256.hash(matches.bytes[part])))
                body += compressed
                break
            }
            start += count
        }
        let index = Array((["frames": .list(frames.map(\.json))] as JSON).line.utf8)
        guard index.count <= mostIndex else { return false }
        let length = (0..<4).map { UInt8(truncatingIfNeeded: index.count >> (8 * $0)) }
        try FileSystem.replace(path, with: magic + length + index + body)
        return true
    }
}

/// Which ranges of an old file resemble blocks of a new one.
private struct BlockMatches {
    let bytes: [UInt8]
    let old: [UInt8]
    /// For each block of the new file, an equal block of the old one; nil where there is none.
    private let equals: [Int?]
    private static let size = VerityLayout.blockSize
    /// Old blocks on each side of a changed block that go into its dictionary: the new block likely
    /// derives from them.
    private static let around = 16

    init(of new: [UInt8], to old: [UInt8]) {
        func digests(_ bytes: [UInt8]) -> [Digest] {
            stride(from: 0, to: bytes.count, by: Self.size).map {
                SHA256.hash(bytes[$0..<min($0 + Self.size, bytes.count)])
            }
        }
        var known: [Digest: Int] = [:]
        for (block, digest) in digests(old).enumerated() where known[digest] == nil { known[digest] = block }
        (bytes, self.old) = (new, old)
        equals = digests(new).map { known[$0] }
    }

    /// Blocks of the new file; the last one may be shorter.
    var blocks: Int { equals.count }

    /// The bytes of blocks of the new file.
    func new(_ blocks: Range<Int>) -> Range<Int> {
        blocks.lowerBound * Self.size..<min(blocks.upperBound * Self.size, bytes.count)
    }

    /// How many blocks from `start` on have at most `most` bytes, of which at most `new` have no
    /// equal in the old file.
    func count(from start: Int, new: Int, most: Int) -> Int {
        var (count, unknown) = (0, 0)
        while count < most / Self.size, start + count < blocks {
            if equals[start + count] == nil { unknown += Self.size }
            if unknown > new { break }
            count += 1
        }
        return count
    }

    /// The ranges of the old file that help to compress blocks of the new one.
    func ranges(_ blocks: Range<Int>) -> [Range<Int>] {
        let last = (old.count + Self.size - 1) / Self.size
        var needed: [ClosedRange<UInt128>] = []
        func need(_ first: Int, _ count: Int) {
            let (low, high) = (max(0, first), min(last, first + count))
            if low < high { needed.append(UInt128(low)...UInt128(high - 1)) }
        }
        // How far unchanged blocks have moved; changed ones between them have likely moved as far.
        var shift = 0
        for block in blocks {
            if let equal = equals[block] {
                need(equal, 1)
                shift = equal - block
            } else {
                need(block + shift - Self.around, 2 * Self.around + 1)
            }
        }
        return [ClosedRange<UInt128>].united(needed).map { blocks -> Range<Int> in
            let (first, last) = (Int(blocks.lowerBound), Int(blocks.upperBound))
            return first * Self.size..<min((last + 1) * Self.size, old.count)
        }
    }
}
