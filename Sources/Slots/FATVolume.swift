import Files

/// A FAT32 file system that is changed in place so that power may fail between any two writes (Microsoft: FAT specification 1.03).
///
/// The kernel's driver promises no order: a name may be on the disk before what it names. Here contents are on the disk before the chain of
/// clusters, the chain before the name, and a name of ours comes, changes or goes by one write of one sector; of one that others have laid over two sectors,
/// the new one is there before the old one goes. What a cut leaves behind is
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

    let storage: any RandomAccess
    private let layout: FATLayout
    private var table: FATTable

    /// Reads the file system's own data.
    ///
    /// - Parameter storage: a partition.
    public init(_ storage: any RandomAccess) throws(SlotFailure) {
        layout = try FATLayout(storage)
        guard layout.kind == .fat32 else { throw SlotFailure("\(storage.path) holds no FAT32 file system") }
        self.storage = storage
        table = try FATTable(
            storage, at: layout.tableOffset, size: layout.tableSize, copies: layout.tables, sector: layout.sector,
            clusters: layout.clusters)
    }

    // MARK: - Reading

    /// Bytes that new files may take.
    public var free: Int { table.freeCount * clusterSize }

    var sector: Int { layout.sector }
    var clusterSize: Int { layout.clusterSize }
    private var infoSector: Int { layout.infoSector }
    private func offset(of cluster: Int) -> Int { layout.offset(of: cluster) }

    /// Names are compared as FAT does, without regard to case.
    private func entry(_ name: String, in folder: Entry) throws(SlotFailure) -> Entry? {
        try entries(of: folder).first { $0.name.lowercased() == name.lowercased() }
    }

    /// What stands at a path, such as `EFI/Linux`; nil where nothing does.
    public func find(_ path: String) throws(SlotFailure) -> Entry? {
        var entry = Entry(name: "", isFolder: true, size: 0, firstCluster: layout.rootCluster, records: [])
        for name in path.split(separator: "/") {
            guard entry.isFolder else { return nil }
            guard let next = try self.entry(String(name), in: entry) else { return nil }
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
        var (reader, found) = (FATFolderReader(), [Entry]())
        for cluster in table.chain(from: folder.firstCluster) {
            let bytes = try storage.bytes(clusterSize, at: offset(of: cluster))
            for start in stride(from: 0, to: bytes.count, by: FATRecord.size) {
                let record = Array(bytes[start..<start + FATRecord.size])
                if record[0] == 0 { return found }
                if let entry = reader.take(record, at: offset(of: cluster) + start) { found.append(entry) }
            }
        }
        return found
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
        return room(of: table.chain(from: entry.firstCluster), entry.size)
    }

    private func room(of clusters: [Int], _ size: Int) -> Room {
        Room(storage: storage, clusterSize: clusterSize, dataOffset: layout.dataOffset, clusters: clusters, size: size)
    }

    // MARK: - Files

    /// The same room each time, as long as no file comes or goes.
    ///
    /// - Parameter size: bytes.
    public func room(for size: Int) throws(SlotFailure) -> Room {
        let count = (size + clusterSize - 1) / clusterSize
        let clusters = table.firstFree(count)
        guard clusters.count == count else {
            throw SlotFailure(
                "\(storage.path): \(size) bytes are wanted and \(free) are free", hint: "a larger esp partition")
        }
        return room(of: clusters, size)
    }

    /// Gives a file its name, once all that it holds is on the disk. Of a file that has that name already these become the contents, at once.
    public mutating func publish(_ room: Room, as path: String) throws(SlotFailure) {
        try storage.wait()
        try table.link(room.clusters)
        let (folder, name) = try place(path)
        guard let old = try entry(name, in: folder) else {
            try put(name, in: folder, firstCluster: room.clusters.first ?? 0, size: room.size)
            return try noteFree()
        }
        guard let place = old.records.last, !old.isFolder else { throw SlotFailure("\(path) is a folder") }
        var record = try storage.bytes(FATRecord.size, at: place)
        FATRecord.fill(&record, firstCluster: room.clusters.first ?? 0, size: room.size)
        try overwrite([(place, record)])
        try table.unlink(table.chain(from: old.firstCluster))
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
        guard try self.entry(name, in: folder) == nil else { throw SlotFailure("there is a \(name) already") }
        let short = Array(try storage.bytes(FATRecord.size, at: entry.records[entry.records.count - 1]))
        let records = FATRecord.records(name, short: short)
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
        let kept = try used()
        try table.unlink(table.chain(from: entry.firstCluster).filter { !kept.contains($0) })
        try noteFree()
    }

    /// Takes a name away and nothing else.
    func forget(_ entry: Entry) throws(SlotFailure) {
        var writes: [(Int, [UInt8])] = []
        for place in entry.records { writes.append((place, try erased(place))) }
        try overwrite(writes)
    }

    private func erased(_ place: Int) throws(SlotFailure) -> [UInt8] {
        var record = try storage.bytes(FATRecord.size, at: place)
        record[0] = FATRecord.deleted
        return record
    }

    private func place(_ path: String) throws(SlotFailure) -> (folder: Entry, name: String) {
        let above = FileSystem.parent(of: path) ?? ""
        guard let folder = try find(above), folder.isFolder else { throw SlotFailure("there is no folder \(above)") }
        return (folder, FileSystem.name(of: path))
    }

    // MARK: - Records

    /// Writes a new name in one sector of a folder.
    private mutating func put(
        _ name: String, in folder: Entry, firstCluster: Int, size: Int
    ) throws(SlotFailure) {
        var short = [UInt8](repeating: 0, count: FATRecord.size)
        short.replaceSubrange(0..<11, with: try freeShortName(in: folder))
        short[11] = 0x20
        // The first of January 2000, as the builder has it: a box's clock may be anything.
        for place in [16, 18, 24] { short.put(20 << 9 | 1 << 5 | 1, at: place, 2) }
        FATRecord.fill(&short, firstCluster: firstCluster, size: size)
        let records = FATRecord.records(name, short: short)
        while true {
            for cluster in table.chain(from: folder.firstCluster) {
                for start in stride(from: 0, to: clusterSize, by: sector) {
                    let at = offset(of: cluster) + start
                    var bytes = try storage.bytes(sector, at: at)
                    guard let first = Self.room(in: bytes, for: records.count) else {
                        try removeEnd(in: bytes, at: at)
                        continue
                    }
                    let begin = first * FATRecord.size
                    bytes.replaceSubrange(begin..<begin + records.count * FATRecord.size, with: records.joined())
                    return try write(bytes, at: at)
                }
            }
            try extend(folder)
        }
    }

    /// The first of so many free records in a row. What lies behind the folder's end in the sector is free too, and stays its end.
    private static func room(in sector: [UInt8], for count: Int) -> Int? {
        let free = stride(from: 0, to: sector.count, by: FATRecord.size).map { FATRecord.isFree(sector[$0]) }
        return free.indices.dropLast(count - 1).first { start in
            // A record that begins with zero ends the folder: what follows it would never be found.
            free[start..<start + count].allSatisfy { $0 }
                && !(0..<start).contains { sector[$0 * FATRecord.size] == 0 }
        }
    }

    /// What lies behind a folder's end is never found: records up to the sector's own end become deleted ones instead.
    private func removeEnd(in bytes: [UInt8], at place: Int) throws(SlotFailure) {
        guard stride(from: 0, to: bytes.count, by: FATRecord.size).contains(where: { bytes[$0] == 0 }) else { return }
        var bytes = bytes
        for start in stride(from: 0, to: bytes.count, by: FATRecord.size) where bytes[start] == 0 {
            bytes[start] = FATRecord.deleted
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
        guard let last = table.chain(from: folder.firstCluster).last, let cluster = try room(for: 1).clusters.first
        else {
            throw SlotFailure("\(storage.path): a folder is damaged")
        }
        try write([UInt8](repeating: 0, count: clusterSize), at: offset(of: cluster))
        try table.append(cluster, to: last)
    }

    // MARK: - Writing

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
                bytes.replaceSubrange(record.place - start..<record.place - start + FATRecord.size, with: record.bytes)
            }
            try storage.put(bytes, at: start)
        }
        try storage.wait()
    }

    // MARK: - Repairing

    /// Clusters that files and folders have.
    private func used() throws(SlotFailure) -> Set<Int> {
        var used = Set(table.chain(from: layout.rootCluster))
        var folders = [Entry(name: "", isFolder: true, size: 0, firstCluster: layout.rootCluster, records: [])]
        var seen: Set<Int> = [layout.rootCluster]
        while let folder = folders.popLast() {
            for entry in try entries(of: folder) {
                used.formUnion(table.chain(from: entry.firstCluster))
                if entry.isFolder, seen.insert(entry.firstCluster).inserted { folders.append(entry) }
            }
        }
        return used
    }

    /// Takes clusters back that nobody names, and makes the copies of the table one.
    ///
    /// - Returns: bytes that are free again.
    @discardableResult public mutating func repair() throws(SlotFailure) -> Int {
        let count = try table.keepOnly(used())
        try noteFree()
        return count * clusterSize
    }

    /// The number of free clusters, which others show people.
    private func noteFree() throws(SlotFailure) {
        guard infoSector > 0, infoSector < layout.reserved else { return }
        var bytes = try storage.bytes(sector, at: infoSector * sector)
        guard bytes.number(at: 484, 4) == 0x6141_7272 else { return }
        let count = table.freeCount
        guard bytes.number(at: 488, 4) != count else { return }
        bytes.put(count, at: 488, 4)
        try write(bytes, at: infoSector * sector)
    }
}
