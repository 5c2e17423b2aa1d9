import Files

/// The file allocation table: what follows each cluster. There are copies of it, which are written one after the other.
struct FATTable {
    private static let (endOfChain, badCluster): (UInt32, UInt32) = (0x0FFF_FFFF, 0x0FFF_FFF7)

    private let storage: any RandomAccess
    /// Bytes from the start of the file system.
    private let offset: Int
    /// Bytes of a copy, and of a sector.
    private let size: Int
    private let copies: Int
    private let sector: Int
    /// As the first copy has it; the first two say other things.
    private var next: [UInt32]

    init(
        _ storage: any RandomAccess, at offset: Int, size: Int, copies: Int, sector: Int, clusters: Int
    ) throws(SlotFailure) {
        (self.storage, self.offset, self.size) = (storage, offset, size)
        (self.copies, self.sector) = (copies, sector)
        let bytes = try storage.bytes((clusters + 2) * 4, at: offset)
        guard bytes.count == (clusters + 2) * 4 else { throw SlotFailure("\(storage.path) ends too early") }
        next = Self.numbers(bytes)
    }

    /// The highest four bits of each entry say nothing.
    private static func numbers(_ bytes: [UInt8]) -> [UInt32] {
        bytes.withUnsafeBytes { all in
            [UInt32](unsafeUninitializedCapacity: all.count / 4) { buffer, count in
                for i in 0..<all.count / 4 {
                    buffer[i] =
                        UInt32(littleEndian: all.loadUnaligned(fromByteOffset: i * 4, as: UInt32.self)) & 0x0FFF_FFFF
                }
                count = all.count / 4
            }
        }
    }

    // MARK: - Reading

    /// Clusters that nobody has.
    var freeCount: Int {
        next.withUnsafeBufferPointer { buffer in
            var count = 0
            for i in 2..<buffer.count where buffer[i] == 0 { count += 1 }
            return count
        }
    }

    /// The first free ones; fewer where there are no more.
    func firstFree(_ count: Int) -> [Int] {
        var clusters: [Int] = []
        for cluster in 2..<next.count where clusters.count < count && next[cluster] == 0 { clusters.append(cluster) }
        return clusters
    }

    /// The clusters of a file or folder, in order; cut where the chain leads nowhere.
    func chain(from first: Int) -> [Int] {
        var (chain, cluster) = ([Int](), first)
        while (2..<next.count).contains(cluster), chain.count < next.count {
            chain.append(cluster)
            cluster = Int(next[cluster])
        }
        return chain
    }

    // MARK: - Writing

    /// Makes a chain of clusters.
    mutating func link(_ clusters: [Int]) throws(SlotFailure) {
        for (i, cluster) in clusters.enumerated() {
            next[cluster] = i + 1 < clusters.count ? UInt32(clusters[i + 1]) : Self.endOfChain
        }
        try write(clusters)
    }

    /// Makes a cluster of its own the end of a chain.
    mutating func append(_ cluster: Int, to last: Int) throws(SlotFailure) {
        try link([cluster])
        next[last] = UInt32(cluster)
        try write([last])
    }

    mutating func unlink(_ clusters: [Int]) throws(SlotFailure) {
        for cluster in clusters { next[cluster] = 0 }
        try write(clusters)
    }

    /// Takes all clusters back but these and bad ones, and makes the copies one.
    ///
    /// - Returns: how many are free again.
    mutating func keepOnly(_ used: Set<Int>) throws(SlotFailure) -> Int {
        let lost = (2..<next.count).filter { next[$0] != 0 && next[$0] != Self.badCluster && !used.contains($0) }
        for cluster in lost { next[cluster] = 0 }
        var isChanged = false
        for copy in 0..<copies {
            let there = Self.numbers(try storage.bytes(next.count * 4, at: offset + copy * size))
            if there == next { continue }
            for number in 0..<(next.count + clustersInSector - 1) / clustersInSector {
                let clusters = clustersOf(sector: number)
                if there[clusters] == next[clusters] { continue }
                isChanged = true
                try put(clusters, copy)
            }
        }
        if isChanged { try storage.wait() }
        return lost.count
    }

    /// Writes the sectors that have these clusters, in all copies, and waits.
    private func write(_ clusters: [Int]) throws(SlotFailure) {
        for copy in 0..<copies {
            for number in Set(clusters.map { $0 / clustersInSector }).sorted() {
                try put(clustersOf(sector: number), copy)
            }
        }
        try storage.wait()
    }

    private var clustersInSector: Int { sector / 4 }

    private func clustersOf(sector number: Int) -> Range<Int> {
        number * clustersInSector..<min((number + 1) * clustersInSector, next.count)
    }

    private func put(_ clusters: Range<Int>, _ copy: Int) throws(SlotFailure) {
        let bytes = clusters.flatMap { cluster in (0..<4).map { UInt8(truncatingIfNeeded: next[cluster] >> (8 * $0)) } }
        try storage.put(bytes, at: offset + copy * size + clusters.lowerBound * 4)
    }
}
