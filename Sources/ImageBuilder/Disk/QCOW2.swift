import Disks
import Files
import Glibc

/// Writes a qcow2 image (QEMU: `docs/interop/qcow2.txt`, version 3), uncompressed: clusters of
/// zeros take no space.
public enum QCOW2 {
    private static let clusterSize = 1 << 16

    /// Copies `raw` into `target`.
    public static func write(_ raw: File, to target: File) throws {
        let size = Int(try raw.status().st_size)
        let clusters = size.rounded(upTo: clusterSize) / clusterSize
        let perTable = clusterSize / 8
        let tables = clusters.rounded(upTo: perTable) / perTable
        let levelOneClusters = max(1, (tables * 8).rounded(upTo: clusterSize) / clusterSize)

        // Data first, in order: its size determines the size of the tables.
        var levelTwo: [Int: [UInt64]] = [:]
        var next = 1
        func allocate(_ count: Int) -> Int {
            defer { next += count }
            return next
        }
        let levelOneAt = allocate(levelOneClusters)
        for extent in try Sparse.extents(of: raw, unit: clusterSize) {
            let at = allocate(extent.count.rounded(upTo: clusterSize) / clusterSize)
            try target.copy(from: raw, at: extent.offset, count: extent.count, to: at * clusterSize)
            for i in 0..<extent.count.rounded(upTo: clusterSize) / clusterSize {
                let cluster = extent.offset / clusterSize + i
                levelTwo[cluster / perTable, default: [UInt64](repeating: 0, count: perTable)][cluster % perTable] =
                    UInt64((at + i) * clusterSize) | copied
            }
        }
        var levelOne = [UInt64](repeating: 0, count: tables)
        for (table, entries) in levelTwo.sorted(by: { $0.key < $1.key }) {
            let at = allocate(1)
            levelOne[table] = UInt64(at * clusterSize) | copied
            try target.write(bigEndian(entries), at: at * clusterSize)
        }
        try target.write(bigEndian(levelOne), at: levelOneAt * clusterSize)

        // The clusters of the reference counts are counted too. A block counts 32,768 clusters, one
        // table cluster 8,192 blocks.
        let perBlock = clusterSize / 2
        var blocks = 1
        while (next + 1 + blocks) > blocks * perBlock { blocks += 1 }
        let tableAt = allocate(1)
        let blocksAt = allocate(blocks)
        try target.write(
            bigEndian((0..<blocks).map { UInt64((blocksAt + $0) * clusterSize) }), at: tableAt * clusterSize)
        let counts = [UInt16](repeating: 1, count: next) + [UInt16](repeating: 0, count: blocks * perBlock - next)
        try target.write(counts.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xFF)] }, at: blocksAt * clusterSize)

        var header: [UInt8] = []
        func put32(_ values: UInt32...) {
            header += values.flatMap { v in withUnsafeBytes(of: v.bigEndian, Array.init) }
        }
        func put64(_ values: Int...) { header += bigEndian(values.map(UInt64.init)) }
        put32(0x5146_49FB, 3)
        put64(0)  // no backing file
        put32(0, 16)
        put64(size)
        put32(0, UInt32(tables))
        put64(levelOneAt * clusterSize, tableAt * clusterSize)
        put32(1, 0)
        put64(0, 0, 0, 0)
        put32(4, 104)
        try target.write(header, at: 0)
        try target.resize(to: next * clusterSize)
    }

    /// QCOW_OFLAG_COPIED: the reference count is exactly one, so QEMU may overwrite the cluster.
    private static let copied: UInt64 = 1 << 63

    private static func bigEndian(_ values: [UInt64]) -> [UInt8] {
        values.flatMap { value in withUnsafeBytes(of: value.bigEndian, Array.init) }
    }
}
