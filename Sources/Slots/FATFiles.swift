import Files

/// Files in the root folder of a FAT file system of unknown origin: of each kind, read only, and
/// never more of it than the caller wants.
public struct FATFiles {
    private let storage: any RandomAccess
    private let layout: FATLayout
    /// The most bytes of a root folder: 65,536 records (Microsoft: FAT specification 1.03).
    private static let mostOfFolder = 65_536 * FATRecord.size

    /// - Throws: when there is no such file system.
    public init(_ storage: any RandomAccess) throws(SlotFailure) {
        self.storage = storage
        layout = try FATLayout(storage)
    }

    /// A file's contents; nil where there is none. Names are compared without regard to case.
    ///
    /// - Parameter limit: bytes.
    /// - Throws: ``SlotFailure`` for a longer file and a damaged one.
    public func read(_ name: String, limit: Int) throws(SlotFailure) -> [UInt8]? {
        guard let entry = try root().first(where: { !$0.isFolder && $0.name.lowercased() == name }) else { return nil }
        guard entry.size <= limit else {
            throw SlotFailure("\(name) has \(entry.size) bytes, and \(limit) are allowed")
        }
        let bytes = try contents(
            // Of the other kinds the upper half is none.
            from: layout.kind == .fat32 ? entry.firstCluster : entry.firstCluster & 0xFFFF, limit: entry.size)
        guard bytes.count == entry.size else {
            throw SlotFailure("\(name): \(bytes.count) of its \(entry.size) bytes are there")
        }
        return bytes
    }

    private func root() throws(SlotFailure) -> [FATVolume.Entry] {
        let bytes =
            layout.kind == .fat32
            ? try contents(from: layout.rootCluster, limit: Self.mostOfFolder)
            : try storage.bytes(min(layout.rootSize, Self.mostOfFolder), at: layout.rootOffset)
        var (reader, entries) = (FATFolderReader(), [FATVolume.Entry]())
        for start in stride(from: 0, to: bytes.count - FATRecord.size + 1, by: FATRecord.size) {
            let record = Array(bytes[start..<start + FATRecord.size])
            if record[0] == 0 { break }
            if let entry = reader.take(record, at: start) { entries.append(entry) }
        }
        return entries
    }

    private func contents(from first: Int, limit: Int) throws(SlotFailure) -> [UInt8] {
        var (bytes, cluster) = ([UInt8](), first)
        while bytes.count < limit, layout.isCluster(cluster) {
            let part = try storage.bytes(min(layout.clusterSize, limit - bytes.count), at: layout.offset(of: cluster))
            if part.isEmpty { break }
            bytes += part
            cluster = try next(cluster)
        }
        return bytes
    }

    /// What follows a cluster, by the first table.
    private func next(_ cluster: Int) throws(SlotFailure) -> Int {
        // An entry of FAT12 has one and a half bytes.
        let place = cluster * layout.kind.rawValue / 8
        let bytes = try storage.bytes(layout.kind == .fat32 ? 4 : 2, at: layout.tableOffset + place)
        guard bytes.count == (layout.kind == .fat32 ? 4 : 2) else { return 0 }
        return switch layout.kind {
        case .fat12: cluster % 2 == 0 ? bytes.number(at: 0, 2) & 0xFFF : bytes.number(at: 0, 2) >> 4
        case .fat16: bytes.number(at: 0, 2)
        case .fat32: bytes.number(at: 0, 4) & 0x0FFF_FFFF
        }
    }
}

/// Puts a folder's records together.
struct FATFolderReader {
    private var long: [Int: [UInt16]] = [:]
    private var places: [Int] = []

    /// - Parameters:
    ///   - record: the next one; not the end.
    ///   - place: where it is.
    /// - Returns: what it completes.
    mutating func take(_ record: [UInt8], at place: Int) -> FATVolume.Entry? {
        if record[0] == FATRecord.deleted || FATRecord.isLabel(record) {
            (long, places) = ([:], [])
            return nil
        }
        if FATRecord.isLongName(record) {
            if record[0] & 0x40 != 0 { (long, places) = ([:], []) }
            long[Int(record[0] & 0x3F)] = FATRecord.longPart(record)
            places.append(place)
            return nil
        }
        defer { (long, places) = ([:], []) }
        let units = long.keys.sorted().flatMap { long[$0] ?? [] }.prefix { $0 != 0 }
        let name = units.isEmpty ? FATRecord.shortName(record) : String(decoding: units, as: UTF16.self)
        if name == "." || name == ".." { return nil }
        return FATVolume.Entry(
            name: name, isFolder: FATRecord.isFolder(record), size: record.number(at: 28, 4),
            firstCluster: record.number(at: 20, 2) << 16 | record.number(at: 26, 2), records: places + [place])
    }
}
