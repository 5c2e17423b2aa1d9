import Addresses
import Digests
import Documents
import Files
import Updates

extension PatchDelta {
    /// Writes the file by which one root becomes another one.
    public static func make(from old: File, to new: File, path: String) throws {
        let index = BlockIndex(try old.readAll())
        let bytes = try new.readAll()
        var (frames, packed): ([Frame], [UInt8]) = ([], [])
        var start = 0
        while start < bytes.count {
            // As much as will likely fit when it is compressed: what is new becomes half as much.
            var count = index.count(in: bytes, from: start, new: 2 * mostCompressed, most: mostNew)
            while true {
                let part = Array(bytes[start..<start + count])
                let ranges = index.ranges(like: part, at: start)
                var before: [UInt8] = []
                for range in ranges { before += index.bytes[range] }
                let compressed = Zstandard.compress(part, after: before)
                // Much of it is new: less at a time.
                if compressed.count > mostCompressed || before.count > mostOld, count > 1 << 16 {
                    count = max(1 << 16, count / 2)
                    continue
                }
                frames.append(
                    Frame(
                        new: start..<start + count, old: ranges, compressed: compressed.count,
                        digest: SHA256.hash(part)))
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

/// Where the blocks of an old root are, and which of its ranges are much like a part of the new one.
private struct BlockIndex {
    let bytes: [UInt8]
    private let size = VerityLayout.blockSize
    private var places: [Digest: Int] = [:]
    /// Blocks around one that has changed: what stood there is likely what it was made from.
    private static let around = 16

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        for block in 0..<bytes.count / size {
            let digest = SHA256.hash(bytes[block * size..<(block + 1) * size])
            if places[digest] == nil { places[digest] = block }
        }
    }

    /// How many bytes from `start` on have no more than `new` bytes in blocks that are nowhere in the old root.
    func count(in bytes: [UInt8], from start: Int, new: Int, most: Int) -> Int {
        var (count, unknown) = (0, 0)
        while count < most, start + count < bytes.count {
            let end = min(start + count + size, bytes.count)
            if places[SHA256.hash(bytes[start + count..<end])] == nil { unknown += size }
            if unknown > new, count > 0 { break }
            count = end - start
        }
        return count
    }

    func ranges(like part: [UInt8], at start: Int) -> [Range<Int>] {
        let last = bytes.count / size
        var wanted: [ClosedRange<UInt128>] = []
        func want(_ first: Int, _ count: Int) {
            let (low, high) = (max(0, first), min(last, first + count))
            if low < high { wanted.append(UInt128(low)...UInt128(high - 1)) }
        }
        // How far what is unchanged has moved; what has changed moved as far.
        var shift = 0
        for offset in stride(from: 0, to: part.count, by: size) {
            let block = (start + offset) / size
            let bytes = part[offset..<min(offset + size, part.count)]
            if let place = places[SHA256.hash(bytes)] {
                want(place, 1)
                if place > 0 || block == 0 { shift = place - block }
            } else {
                want(block + shift - Self.around, 2 * Self.around + 1)
            }
        }
        return [ClosedRange<UInt128>].united(wanted).map { blocks -> Range<Int> in
            let (first, last) = (Int(blocks.lowerBound), Int(blocks.upperBound))
            return first * size..<(last + 1) * size
        }
    }
}
