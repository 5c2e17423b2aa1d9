import Files

/// A FAT32 file system that is changed in place so that power may fail between any two writes (Microsoft: FAT specification 1.03).
///
/// The kernel's driver promises no order: a name may be on the disk before what it names. Here contents are on the disk before the chain of
/// clusters, the chain before the name, and a name comes, changes or goes by one write of one sector. What a cut leaves behind is
/// clusters that nobody names; ``repair()`` takes them back.
public struct FATVolume {
    /// Something in a folder.
    public struct Entry: Sendable, Hashable {
        public var name: String
        public var isFolder: Bool
        /// Bytes.
        public var size: Int
        public var firstCluster: Int
        /// Where its records are, those of the long name first; bytes from the start of the file system.
        var records: [Int]
    }

    private static let (recordSize, endOfChain) = (32, 0x0FFF_FFFF)
    private static let (deleted, longName, folder): (UInt8, UInt8, UInt8) = (0xE5, 0x0F, 0x10)

    let storage: any RandomAccess
    let sector: Int
    let clusterSize: Int
    private let tableOffset: Int
    private let tableSize: Int
    private let tables: Int
    private let dataOffset: Int
    private let rootCluster: Int
    private let infoSector: Int
    /// What follows each cluster, as the first table has it.
    private var table: [UInt32]

    /// Reads the file system's own data.
    ///
    /// - Parameter storage: a partition.
    public init(_ storage: any RandomAccess) throws(SlotFailure) {
        let boot = try storage.bytes(512, at: 0)
        guard boot.count == 512, boot[510] == 0x55, boot[511] == 0xAA else {
            throw SlotFailure("\(storage.path) holds no FAT32 file system")
        }
        let (sector, reserved) = (boot.number(at: 11, 2), boot.number(at: 14, 2))
        let (sectors, tableSectors) = (boot.number(at: 32, 4), boot.number(at: 36, 4))
        guard [512, 1024, 2048, 4096].contains(sector), boot[13] > 0, boot[13] & (boot[13] - 1) == 0, reserved > 0,
            (1...2).contains(boot[16]), boot.number(at: 17, 2) == 0, tableSectors > 0, tableSectors < 1 << 20
        else { throw SlotFailure("\(storage.path) holds no FAT32 file system") }
        (self.storage, self.sector) = (storage, sector)
        clusterSize = sector * Int(boot[13])
        tables = Int(boot[16])
        tableOffset = reserved * sector
        tableSize = tableSectors * sector
        dataOffset = tableOffset + tables * tableSize
        rootCluster = boot.number(at: 44, 4)
        infoSector = boot.number(at: 48, 2)
        let clusters = (sectors * sector - dataOffset) / clusterSize
        guard clusters > 0, clusters + 2 <= tableSize / 4 else {
            throw SlotFailure("\(storage.path): its FAT32 file system is damaged")
        }
        let bytes = try storage.bytes((clusters + 2) * 4, at: tableOffset)
        guard bytes.count == (clusters + 2) * 4 else { throw SlotFailure("\(storage.path) ends too early") }
        table = Self.numbers(bytes)
    }

    /// A table's entries; the highest four bits of each say nothing.
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

    /// Bytes that new files may take.
    public var free: Int { freeClusters * clusterSize }

    private var freeClusters: Int {
        table.withUnsafeBufferPointer { buffer in
            var count = 0
            for i in 2..<buffer.count where buffer[i] == 0 { count += 1 }
            return count
        }
    }

    /// The clusters of a file or folder, in order; cut where the chain leads nowhere.
    func chain(from first: Int) -> [Int] {
        var (chain, next) = ([Int](), first)
        while (2..<table.count).contains(next), chain.count < table.count {
            chain.append(next)
            next = Int(table[next])
        }
        return chain
    }

    private func offset(of cluster: Int) -> Int { dataOffset + (cluster - 2) * clusterSize }

    /// What stands at a path, such as `EFI/Linux`; names are compared as FAT does, without regard to case. Nil where nothing does.
    public func find(_ path: String) throws(SlotFailure) -> Entry? {
        var entry = Entry(name: "", isFolder: true, size: 0, firstCluster: rootCluster, records: [])
        for name in path.split(separator: "/") {
            guard entry.isFolder else { return nil }
            guard let next = try entries(of: entry).first(where: { $0.name.lowercased() == name.lowercased() }) else {
                return nil
            }
            entry = next
        }
        return entry
    }

    /// What is in a folder; empty where there is none.
    public func list(_ path: String) throws(SlotFailure) -> [Entry] {
        guard let folder = try find(path), folder.isFolder else { return [] }
        return try entries(of: folder)
    }

    private func entries(of folder: Entry) throws(SlotFailure) -> [Entry] {
        var (found, long, places): ([Entry], [Int: [UInt16]], [Int]) = ([], [:], [])
        for cluster in chain(from: folder.firstCluster) {
            let bytes = try storage.bytes(clusterSize, at: offset(of: cluster))
            for start in stride(from: 0, to: bytes.count, by: Self.recordSize) {
                let record = Array(bytes[start..<start + Self.recordSize])
                if record[0] == 0 { return found }
                if record[0] == Self.deleted || record[11] & 0x3F != Self.longName && record[11] & 0x08 != 0 {
                    (long, places) = ([:], [])
                } else if record[11] & 0x3F == Self.longName {
                    if record[0] & 0x40 != 0 { (long, places) = ([:], []) }
                    long[Int(record[0] & 0x3F)] = Self.longPart(record)
                    places.append(offset(of: cluster) + start)
                } else {
                    let units = long.keys.sorted().flatMap { long[$0] ?? [] }.prefix { $0 != 0 }
                    let name =
                        units.isEmpty ? Self.shortName(record) : String(decoding: units, as: UTF16.self)
                    if name != ".", name != ".." {
                        found.append(
                            Entry(
                                name: name, isFolder: record[11] & Self.folder != 0, size: record.number(at: 28, 4),
                                firstCluster: record.number(at: 20, 2) << 16 | record.number(at: 26, 2),
                                records: places + [offset(of: cluster) + start]))
                    }
                    (long, places) = ([:], [])
                }
            }
        }
        return found
    }

    private static func longPart(_ record: [UInt8]) -> [UInt16] {
        ([1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30]).map { UInt16(record.number(at: $0, 2)) }
    }

    private static func shortName(_ record: [UInt8]) -> String {
        func part(_ range: Range<Int>, isLower: Bool) -> String {
            let text = String(decoding: record[range], as: UTF8.self)
            let trimmed = String(text.prefix { $0 != " " })
            return isLower ? trimmed.lowercased() : trimmed
        }
        let (name, type) = (
            part(0..<8, isLower: record[12] & 0x08 != 0), part(8..<11, isLower: record[12] & 0x10 != 0)
        )
        return type.isEmpty ? name : "\(name).\(type)"
    }

    /// The contents of a file.
    ///
    /// - Throws: ``SlotFailure`` where there is none, and where its clusters end before it does.
    public func read(_ path: String) throws(SlotFailure) -> [UInt8] {
        let contents = try contents(of: path)
        let bytes = try contents.bytes(contents.size, at: 0)
        guard bytes.count == contents.size else {
            throw SlotFailure("\(path): \(bytes.count) of its \(contents.size) bytes are there")
        }
        return bytes
    }

    /// The contents of a file, for who reads some of them.
    func contents(of path: String) throws(SlotFailure) -> Room {
        guard let entry = try find(path), !entry.isFolder else { throw SlotFailure("there is no \(path)") }
        return room(of: chain(from: entry.firstCluster), entry.size)
    }

    private func room(of clusters: [Int], _ size: Int) -> Room {
        Room(storage: storage, clusterSize: clusterSize, dataOffset: dataOffset, clusters: clusters, size: size)
    }

    // MARK: - Files

    /// Room for a file that has no name yet: nobody sees it before ``publish(_:as:)``, and after a cut of power nothing of it is left but what
    /// the same room holds when it is made anew.
    public struct Room: RandomAccess {
        let storage: any RandomAccess
        let clusterSize: Int
        let dataOffset: Int
        let clusters: [Int]
        public let size: Int

        public var path: String { storage.path }

        private func pieces(_ count: Int, at offset: Int) -> [(place: Int, count: Int)] {
            var (list, done): ([(place: Int, count: Int)], Int) = ([], 0)
            while done < count {
                let (index, within) = (offset + done).quotientAndRemainder(dividingBy: clusterSize)
                guard clusters.indices.contains(index) else { break }
                let piece = min(count - done, clusterSize - within)
                let place = dataOffset + (clusters[index] - 2) * clusterSize + within
                if let last = list.last, last.place + last.count == place {
                    list[list.count - 1].count += piece
                } else {
                    list.append((place, piece))
                }
                done += piece
            }
            return list
        }

        public func read(_ count: Int, at offset: Int) throws(SystemError) -> [UInt8] {
            var bytes: [UInt8] = []
            for piece in pieces(max(0, min(count, size - offset)), at: offset) {
                bytes += try storage.read(piece.count, at: piece.place)
            }
            return bytes
        }

        /// What lies behind the file's size is left out: blocks may be larger than what is left of a file.
        public func write(_ bytes: [UInt8], at offset: Int) throws(SystemError) {
            var done = 0
            for piece in pieces(max(0, min(bytes.count, size - offset)), at: offset) {
                try storage.write(Array(bytes[done..<done + piece.count]), at: piece.place)
                done += piece.count
            }
        }

        public func sync() throws(SystemError) { try storage.sync() }
    }

    /// The same room each time, as long as no file comes or goes.
    ///
    /// - Parameter size: bytes.
    public func room(for size: Int) throws(SlotFailure) -> Room {
        let count = (size + clusterSize - 1) / clusterSize
        var clusters: [Int] = []
        for cluster in 2..<table.count where clusters.count < count && table[cluster] == 0 { clusters.append(cluster) }
        guard clusters.count == count else {
            throw SlotFailure(
                "\(storage.path): \(size) bytes are wanted and \(free) are free", hint: "a larger esp partition")
        }
        return room(of: clusters, size)
    }

    /// Gives a file its name, once all that it holds is on the disk. Of a file that has that name already these become the contents, at once.
    public mutating func publish(_ room: Room, as path: String) throws(SlotFailure) {
        try storage.wait()
        try link(room.clusters)
        let (folder, name) = try place(path)
        guard let old = try entries(of: folder).first(where: { $0.name.lowercased() == name.lowercased() }) else {
            try put(name, in: folder, firstCluster: room.clusters.first ?? 0, size: room.size)
            return try noteFree()
        }
        guard let place = old.records.last, !old.isFolder else { throw SlotFailure("\(path) is a folder") }
        var record = try storage.bytes(Self.recordSize, at: place)
        Self.fill(&record, firstCluster: room.clusters.first ?? 0, size: room.size)
        try overwrite([(place, record)])
        try unlink(chain(from: old.firstCluster))
        try noteFree()
    }

    /// Writes a small file.
    public mutating func write(_ bytes: [UInt8], to path: String) throws(SlotFailure) {
        let room = try room(for: bytes.count)
        do { try room.write(bytes, at: 0) } catch { throw SlotFailure(error) }
        try publish(room, as: path)
    }

    /// Gives a file another name in its folder, at once where both fit into a sector; else the new name is there before the old one goes.
    public mutating func rename(_ path: String, to name: String) throws(SlotFailure) {
        guard let entry = try find(path) else { throw SlotFailure("there is no \(path)") }
        let (folder, _) = try place(path)
        guard try !entries(of: folder).contains(where: { $0.name.lowercased() == name.lowercased() }) else {
            throw SlotFailure("there is a \(name) already")
        }
        let short = Array(try storage.bytes(Self.recordSize, at: entry.records[entry.records.count - 1]))
        let records = Self.records(name, short: short)
        let isOneSector = Set(entry.records.map { $0 / sector }).count == 1
        if isOneSector, records.count <= entry.records.count {
            // The last ones stay last, so that a name's parts and its record lie side by side.
            let unused = entry.records.count - records.count
            var writes: [(Int, [UInt8])] = []
            for place in entry.records[..<unused] { writes.append((place, try erased(place))) }
            for (place, record) in zip(entry.records[unused...], records) { writes.append((place, record)) }
            return try overwrite(writes)
        }
        try put(name, in: folder, firstCluster: entry.firstCluster, size: entry.size)
        try forget(entry)
    }

    public mutating func remove(_ path: String) throws(SlotFailure) {
        guard let entry = try find(path), !entry.isFolder else { throw SlotFailure("there is no file \(path)") }
        try forget(entry)
        // Another name for the same clusters keeps them.
        let kept = try used(besides: nil)
        try unlink(chain(from: entry.firstCluster).filter { !kept.contains($0) })
        try noteFree()
    }

    /// Takes a name away and nothing else.
    func forget(_ entry: Entry) throws(SlotFailure) {
        var writes: [(Int, [UInt8])] = []
        for place in entry.records { writes.append((place, try erased(place))) }
        try overwrite(writes)
    }

    private func erased(_ place: Int) throws(SlotFailure) -> [UInt8] {
        var record = try storage.bytes(Self.recordSize, at: place)
        record[0] = Self.deleted
        return record
    }

    private func place(_ path: String) throws(SlotFailure) -> (folder: Entry, name: String) {
        let above = FileSystem.parent(of: path) ?? ""
        guard let folder = try find(above), folder.isFolder else { throw SlotFailure("there is no folder \(above)") }
        return (folder, FileSystem.name(of: path))
    }

    // MARK: - Records

    private static func fill(_ record: inout [UInt8], firstCluster: Int, size: Int) {
        record.put(firstCluster >> 16, at: 20, 2)
        record.put(firstCluster & 0xFFFF, at: 26, 2)
        record.put(size, at: 28, 4)
    }

    /// Those of a long name, and behind them the one that has everything else.
    private static func records(_ name: String, short: [UInt8]) -> [[UInt8]] {
        let sum = short[..<11].reduce(UInt8(0)) { ($0 & 1) << 7 &+ $0 >> 1 &+ $1 }
        var units = Array(name.utf16)
        if units.count % 13 != 0 {
            units.append(0)
            while units.count % 13 != 0 { units.append(0xFFFF) }
        }
        let parts = units.count / 13
        let long = (1...parts).reversed().map { number -> [UInt8] in
            var record = [UInt8](repeating: 0, count: recordSize)
            record[0] = UInt8(number) | (number == parts ? 0x40 : 0)
            (record[11], record[13]) = (longName, sum)
            for (i, place) in [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30].enumerated() {
                record.put(Int(units[(number - 1) * 13 + i]), at: place, 2)
            }
            return record
        }
        return long + [short]
    }

    /// Writes a new name in one sector of a folder.
    private mutating func put(
        _ name: String, in folder: Entry, firstCluster: Int, size: Int
    ) throws(SlotFailure) {
        var short = [UInt8](repeating: 0, count: Self.recordSize)
        short.replaceSubrange(0..<11, with: try freeShortName(in: folder))
        short[11] = 0x20
        // The first of January 2000, as the builder has it: a box's clock may be anything.
        for place in [16, 18, 24] { short.put(20 << 9 | 1 << 5 | 1, at: place, 2) }
        Self.fill(&short, firstCluster: firstCluster, size: size)
        let records = Self.records(name, short: short)
        while true {
            for cluster in chain(from: folder.firstCluster) {
                for start in stride(from: 0, to: clusterSize, by: sector) {
                    let at = offset(of: cluster) + start
                    var bytes = try storage.bytes(sector, at: at)
                    guard let first = Self.room(in: bytes, for: records.count) else {
                        try removeEnd(in: bytes, at: at)
                        continue
                    }
                    let begin = first * Self.recordSize
                    bytes.replaceSubrange(begin..<begin + records.count * Self.recordSize, with: records.joined())
                    return try write(bytes, at: at)
                }
            }
            try extend(folder)
        }
    }

    /// The first of so many free records in a row. What lies behind the folder's end in the sector is free too, and stays its end.
    private static func room(in sector: [UInt8], for count: Int) -> Int? {
        let free = stride(from: 0, to: sector.count, by: recordSize).map { sector[$0] == 0 || sector[$0] == deleted }
        return free.indices.dropLast(count - 1).first { start in
            // A record that begins with zero ends the folder: what follows it would never be found.
            free[start..<start + count].allSatisfy { $0 }
                && !(0..<start).contains { sector[$0 * recordSize] == 0 }
        }
    }

    /// What lies behind a folder's end is never found: records up to the sector's own end become deleted ones instead.
    private func removeEnd(in bytes: [UInt8], at place: Int) throws(SlotFailure) {
        guard stride(from: 0, to: bytes.count, by: Self.recordSize).contains(where: { bytes[$0] == 0 }) else { return }
        var bytes = bytes
        for start in stride(from: 0, to: bytes.count, by: Self.recordSize) where bytes[start] == 0 {
            bytes[start] = Self.deleted
        }
        try write(bytes, at: place)
    }

    private func freeShortName(in folder: Entry) throws(SlotFailure) -> [UInt8] {
        var taken: Set<[UInt8]> = []
        for entry in try entries(of: folder) {
            if let place = entry.records.last { taken.insert(Array(try storage.bytes(11, at: place))) }
        }
        for number in 1..<1000 {
            let name = Array("VCPE~\(number)".utf8)
            let padded = name + [UInt8](repeating: 0x20, count: 8 - name.count) + Array("EFI".utf8)
            if !taken.contains(padded) { return padded }
        }
        throw SlotFailure("\(storage.path): a folder is full")
    }

    private mutating func extend(_ folder: Entry) throws(SlotFailure) {
        guard let last = chain(from: folder.firstCluster).last, let cluster = try room(for: 1).clusters.first else {
            throw SlotFailure("\(storage.path): a folder is damaged")
        }
        try write([UInt8](repeating: 0, count: clusterSize), at: offset(of: cluster))
        try link([cluster])
        table[last] = UInt32(cluster)
        try writeTable([last])
    }

    // MARK: - The tables

    private mutating func link(_ clusters: [Int]) throws(SlotFailure) {
        for (i, cluster) in clusters.enumerated() {
            table[cluster] = UInt32(i + 1 < clusters.count ? clusters[i + 1] : Self.endOfChain)
        }
        try writeTable(clusters)
    }

    private mutating func unlink(_ clusters: [Int]) throws(SlotFailure) {
        for cluster in clusters { table[cluster] = 0 }
        try writeTable(clusters)
    }

    /// Writes the sectors of the tables that have these clusters, in all copies, and waits.
    private func writeTable(_ clusters: [Int]) throws(SlotFailure) {
        let perSector = sector / 4
        for copy in 0..<tables {
            for number in Set(clusters.map { $0 / perSector }).sorted() {
                try putTable(number * perSector..<min((number + 1) * perSector, table.count), copy)
            }
        }
        try storage.wait()
    }

    private func putTable(_ clusters: Range<Int>, _ copy: Int) throws(SlotFailure) {
        let bytes = clusters.flatMap { cluster in (0..<4).map { UInt8(truncatingIfNeeded: table[cluster] >> (8 * $0)) }
        }
        try storage.put(bytes, at: tableOffset + copy * tableSize + clusters.lowerBound * 4)
    }

    private func write(_ bytes: [UInt8], at offset: Int) throws(SlotFailure) {
        try storage.put(bytes, at: offset)
        try storage.wait()
    }

    /// Writes records, sector by sector.
    private func overwrite(_ records: [(place: Int, bytes: [UInt8])]) throws(SlotFailure) {
        for (start, group) in Dictionary(grouping: records, by: { $0.place / sector * sector }).sorted(by: {
            $0.key < $1.key
        }) {
            var bytes = try storage.bytes(sector, at: start)
            for record in group {
                bytes.replaceSubrange(record.place - start..<record.place - start + Self.recordSize, with: record.bytes)
            }
            try storage.put(bytes, at: start)
        }
        try storage.wait()
    }

    // MARK: - Repairing

    /// Clusters that files and folders have.
    private func used(besides left: Entry?) throws(SlotFailure) -> Set<Int> {
        var used = Set(chain(from: rootCluster))
        var folders = [Entry(name: "", isFolder: true, size: 0, firstCluster: rootCluster, records: [])]
        var seen: Set<Int> = [rootCluster]
        while let folder = folders.popLast() {
            for entry in try entries(of: folder) where entry != left {
                used.formUnion(chain(from: entry.firstCluster))
                if entry.isFolder, seen.insert(entry.firstCluster).inserted { folders.append(entry) }
            }
        }
        return used
    }

    /// Takes clusters back that nobody names, and makes the copies of the table one.
    ///
    /// - Returns: bytes that are free again.
    @discardableResult public mutating func repair() throws(SlotFailure) -> Int {
        let used = try used(besides: nil)
        // Bad clusters are marked so that they belong to nobody.
        let lost = (2..<table.count).filter { table[$0] != 0 && table[$0] != 0x0FFF_FFF7 && !used.contains($0) }
        for cluster in lost { table[cluster] = 0 }
        let perSector = sector / 4
        var isChanged = false
        for copy in 0..<tables {
            let there = Self.numbers(try storage.bytes(table.count * 4, at: tableOffset + copy * tableSize))
            if there == table { continue }
            for number in 0..<(table.count + perSector - 1) / perSector {
                let clusters = number * perSector..<min((number + 1) * perSector, table.count)
                if there.dropFirst(clusters.lowerBound).prefix(perSector) == table[clusters] { continue }
                isChanged = true
                try putTable(clusters, copy)
            }
        }
        if isChanged { try storage.wait() }
        try noteFree()
        return lost.count * clusterSize
    }

    /// The number of free clusters, which others show people.
    private func noteFree() throws(SlotFailure) {
        guard infoSector > 0, infoSector < tableOffset / sector else { return }
        var bytes = try storage.bytes(sector, at: infoSector * sector)
        guard bytes.number(at: 484, 4) == 0x6141_7272 else { return }
        let count = freeClusters
        guard bytes.number(at: 488, 4) != count else { return }
        bytes.put(count, at: 488, 4)
        try write(bytes, at: infoSector * sector)
    }
}

extension [UInt8] {
    fileprivate func number(at offset: Int, _ size: Int) -> Int {
        (0..<size).reduce(0) { $0 | Int(self[offset + $1]) << (8 * $1) }
    }

    fileprivate mutating func put(_ value: Int, at offset: Int, _ size: Int) {
        for i in 0..<size { self[offset + i] = UInt8(truncatingIfNeeded: value >> (8 * i)) }
    }
}

extension RandomAccess {
    fileprivate func bytes(_ count: Int, at offset: Int) throws(SlotFailure) -> [UInt8] {
        do { return try read(count, at: offset) } catch { throw SlotFailure(error) }
    }

    fileprivate func put(_ bytes: [UInt8], at offset: Int) throws(SlotFailure) {
        do { try write(bytes, at: offset) } catch { throw SlotFailure(error) }
    }

    fileprivate func wait() throws(SlotFailure) { do { try sync() } catch { throw SlotFailure(error) } }
}
