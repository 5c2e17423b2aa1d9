import Addresses
import Digests
import Documents
import Files
import Updates

extension PatchDelta {
    /// Writes the file by which one root becomes another one.
    ///
    /// - Parameters:
    ///   - old: nil for a file that makes the new one of nothing.
    ///   - level: zstd's.
    public static func make(from old: File?, to new: File, path: String, level: Int32 = 19) throws {
        let likeness = Likeness(of: try new.readAll(), to: try old?.readAll() ?? [])
        var (frames, packed): ([Frame], [UInt8]) = ([], [])
        var start = 0
        while start < likeness.blocks {
            // As much as will likely fit when it is compressed: what is new becomes half as much.
            var count = likeness.count(from: start, new: 2 * mostCompressed, most: mostNew)
            while true {
                let ranges = likeness.ranges(start..<start + count)
                // Much of it is new, and goes back to much: less at a time. Sixteen blocks are always few enough.
                if ranges.reduce(0, { $0 + $1.count }) > mostOld, count > 16 {
                    count = max(16, count / 2)
                    continue
                }
                var before: [UInt8] = []
                for range in ranges { before += likeness.old[range] }
                let part = likeness.new(start..<start + count)
                let compressed = Zstandard.compress(Array(likeness.bytes[part]), after: before, level: level)
                if compressed.count > mostCompressed, count > 16 {
                    count = max(16, count / 2)
                    continue
                }
                frames.append(
                    Frame(
                        new: part, old: ranges, compressed: compressed.count,
                        digest: SHA256.hash(likeness.bytes[part])))
                packed += compressed
                break
            }
            start += count
        }
        let head = Array((["frames": .list(frames.map(\.json))] as JSON).line.utf8)
        let length = (0..<4).map { UInt8(truncatingIfNeeded: head.count >> (8 * $0)) }
        try FileSystem.replace(path, with: magic + length + head + packed)
    }
}

/// Which ranges of an old file are much like blocks of a new one.
private struct Likeness {
    let bytes: [UInt8]
    let old: [UInt8]
    /// For each block of the new file, where the old one has the same; nil where it is nowhere.
    private let places: [Int?]
    private static let size = VerityLayout.blockSize
    /// Blocks around one that has changed: what stood there is likely what it was made from.
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
        places = digests(new).map { known[$0] }
    }

    /// Of the new file; the last one may be shorter.
    var blocks: Int { places.count }

    /// The bytes of blocks of the new file.
    func new(_ blocks: Range<Int>) -> Range<Int> {
        blocks.lowerBound * Self.size..<min(blocks.upperBound * Self.size, bytes.count)
    }

    /// How many blocks from `start` on are `most` bytes at most, and `new` bytes of them nowhere in the old file.
    func count(from start: Int, new: Int, most: Int) -> Int {
        var (count, unknown) = (0, 0)
        while count < most / Self.size, start + count < blocks {
            if places[start + count] == nil { unknown += Self.size }
            if unknown > new { break }
            count += 1
        }
        return count
    }

    func ranges(_ blocks: Range<Int>) -> [Range<Int>] {
        let last = (old.count + Self.size - 1) / Self.size
        var wanted: [ClosedRange<UInt128>] = []
        func want(_ first: Int, _ count: Int) {
            let (low, high) = (max(0, first), min(last, first + count))
            if low < high { wanted.append(UInt128(low)...UInt128(high - 1)) }
        }
        // How far what is unchanged has moved; what has changed moved as far.
        var shift = 0
        for block in blocks {
            if let place = places[block] {
                want(place, 1)
                shift = place - block
            } else {
                want(block + shift - Self.around, 2 * Self.around + 1)
            }
        }
        return [ClosedRange<UInt128>].united(wanted).map { blocks -> Range<Int> in
            let (first, last) = (Int(blocks.lowerBound), Int(blocks.upperBound))
            return first * Self.size..<min((last + 1) * Self.size, old.count)
        }
    }
}
