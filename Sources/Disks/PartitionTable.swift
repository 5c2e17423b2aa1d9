import Checksums
import Files

/// A GUID partition table (UEFI 2.10, chapter 5) for disks with sectors of 512 or 4096 bytes.
public struct PartitionTable: Sendable, Hashable {
    public struct Partition: Sendable, Hashable {
        public var name: String
        public var type: GUID
        public var guid: GUID
        /// Bytes from the start of the disk, a multiple of the sector size.
        public var offset: Int
        /// Bytes, a multiple of the sector size.
        public var size: Int
    }

    /// The types of the box's partitions (Discoverable Partitions Specification, UAPI.2).
    public enum Kind {
        public static let efiSystem = known("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
        public static let linuxData = known("0fc63daf-8483-4772-8e79-3d69d8477de4")
        public static let root = known("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
        /// Defined by this project: the 1 MiB in which PID 1 counts failed boots.
        public static let state = GUID(named: "vcpe partition type state")

        private static func known(_ text: String) -> GUID { GUID(text) ?? GUID(named: text) }
    }

    /// The supported sector sizes in bytes: 512 for images, and 4096 for many NVMe disks ("4Kn").
    public static let sectorSizes = [512, 4096]

    public var guid: GUID
    public var partitions: [Partition]
    /// Bytes of the whole disk, a multiple of the sector size.
    public var diskSize: Int
    /// Bytes of a logical sector: the unit of all of the table's numbers on the disk.
    public var sectorSize: Int

    public init(guid: GUID, partitions: [Partition], diskSize: Int, sectorSize: Int = 512) {
        self.guid = guid
        self.partitions = partitions
        self.diskSize = diskSize
        self.sectorSize = sectorSize
    }

    /// True when it has the partitions of a box.
    public var isBox: Bool { ["esp", "state", "root-a", "root-b", "data"].allSatisfy { self[$0] != nil } }

    /// The partition with this name.
    public subscript(name: String) -> Partition? { partitions.first { $0.name == name } }

    /// Lays partitions out one after the other, each aligned to 1 MiB.
    ///
    /// - Parameter wanted: sizes in bytes.
    public init(guid: GUID, wanted: [(name: String, type: GUID, guid: GUID, size: Int)]) {
        var next = Self.alignment
        partitions = wanted.map { item in
            let size = item.size.rounded(upTo: Self.alignment)
            defer { next += size }
            return Partition(name: item.name, type: item.type, guid: item.guid, offset: next, size: size)
        }
        self.guid = guid
        diskSize = next + Self.alignment
        sectorSize = 512
    }

    /// Bytes. Every sector size divides it, so that a table can be written for either.
    private static let alignment = 1 << 20

    /// The same partitions on a disk of another size or sector size. The last partition extends to
    /// the disk's end, rounded down to 1 MiB.
    ///
    /// - Parameter size: bytes of the disk.
    public func extended(to size: Int, sectorSize: Int) -> PartitionTable {
        var table = self
        table.sectorSize = sectorSize
        table.diskSize = size / sectorSize * sectorSize
        if let last = table.partitions.indices.last {
            let end = (table.backupEntries - 1) * sectorSize / Self.alignment * Self.alignment
            table.partitions[last].size = max(sectorSize, end - table.partitions[last].offset)
        }
        return table
    }

    // MARK: - Offsets in sectors

    private var sectors: Int { diskSize / sectorSize }
    private var entrySectors: Int { Self.entriesSize.rounded(upTo: sectorSize) / sectorSize }
    /// The first sector of the copy of the entries at the disk's end.
    private var backupEntries: Int { sectors - 1 - entrySectors }
    private static let entryCount = 128
    private static let entrySize = 128
    private static let entriesSize = entryCount * entrySize

    // MARK: - Reading

    /// Reads the table at the start of a disk or an image, for either sector size.
    ///
    /// - Throws: ``DiskFailure`` for a disk without a table, or with one that is damaged. It never
    ///   traps, whatever the disk contains.
    public static func read(_ file: File) throws -> PartitionTable {
        try firstOf(sectorSizes.map { size in { try read(file, sectorSize: size, isBackup: false) } }, file)
    }

    /// Reads the copy at a disk's end.
    ///
    /// - Parameter size: of the disk, in bytes.
    public static func readBackup(_ file: File, size: Int) throws -> PartitionTable {
        try firstOf(
            sectorSizes.map { sector in { try read(file, sectorSize: sector, isBackup: true, size: size) } }, file)
    }

    /// Returns the first readable table; otherwise throws the first damage that was found.
    private static func firstOf(_ tries: [() throws -> PartitionTable], _ file: File) throws -> PartitionTable {
        var failure: DiskFailure?
        for attempt in tries {
            do { return try attempt() } catch let error as DiskFailure {
                if failure == nil || failure?.reason == .noTable { failure = error }
            }
        }
        throw failure ?? DiskFailure("\(file.path) has no GUID partition table", reason: .noTable)
    }

    private static func read(
        _ file: File, sectorSize: Int, isBackup: Bool, size: Int? = nil
    ) throws -> PartitionTable {
        let bytes = try size ?? file.size()
        let headerSector = isBackup ? bytes / sectorSize - 1 : 1
        func damaged(_ what: String, _ reason: DiskFailure.Reason) -> DiskFailure {
            DiskFailure("\(file.path): its partition table is damaged: \(what)", reason: reason)
        }
        guard headerSector > 0 else { throw DiskFailure("\(file.path) has no GUID partition table", reason: .noTable) }
        let header = try file.read(sectorSize, at: headerSector * sectorSize)
        guard header.count == sectorSize, header.starts(with: Array("EFI PART".utf8)) else {
            throw DiskFailure("\(file.path) has no GUID partition table", reason: .noTable)
        }
        func field<Value: FixedWidthInteger>(_ offset: Int, _: Value.Type) throws -> Int {
            guard let value = header.integer(at: offset, Value.self), let number = Int(exactly: value) else {
                throw damaged("the number at byte \(offset) of its header is above 2^63", .damagedHeader)
            }
            return number
        }
        let headerSize = try field(12, UInt32.self)
        guard headerSize >= 92, headerSize <= sectorSize else {
            throw damaged("its header has \(headerSize) bytes", .damagedHeader)
        }
        var cleared = Array(header[..<headerSize])
        cleared.put(UInt32(0), at: 16)
        guard CRC32.iso(cleared) == header.integer(at: 16, UInt32.self) else {
            throw damaged("the checksum of its header is wrong", .damagedHeader)
        }
        let (own, other) = (try field(24, UInt64.self), try field(32, UInt64.self))
        let start = try field(72, UInt64.self)
        let (count, entrySize) = (try field(80, UInt32.self), try field(84, UInt32.self))
        let limit = Int.max / sectorSize - 1
        guard own == headerSector, other > 0, other < limit, start > 0, start < limit else {
            throw damaged("the sector numbers in its header are impossible", .damagedHeader)
        }
        // UEFI reserves space for 128 entries of 128 bytes; up to 1 MiB of entries are accepted.
        guard count > 0, count <= 1024, entrySize >= Self.entrySize, entrySize <= 1024, entrySize % 8 == 0,
            start * sectorSize <= bytes - count * entrySize
        else { throw damaged("found \(count) entries of \(entrySize) bytes at sector \(start)", .damagedHeader) }
        let entries = try file.read(count * entrySize, at: start * sectorSize)
        guard entries.count == count * entrySize, CRC32.iso(entries) == header.integer(at: 88, UInt32.self) else {
            throw damaged("the checksum of its entries is wrong", .damagedEntries)
        }
        var table = PartitionTable(
            guid: GUID(onDisk: Array(header[56..<72])), partitions: [],
            diskSize: (max(own, other) + 1) * sectorSize, sectorSize: sectorSize)
        for start in stride(from: 0, to: entries.count, by: entrySize) {
            let entry = Array(entries[start..<start + entrySize])
            guard entry[..<16].contains(where: { $0 != 0 }) else { continue }
            guard let first = entry.integer(at: 32, UInt64.self).flatMap({ Int(exactly: $0) }),
                let last = entry.integer(at: 40, UInt64.self).flatMap({ Int(exactly: $0) }), first > 0, first <= last,
                last < limit, (last + 1) * sectorSize <= table.diskSize
            else {
                throw damaged("partition \(start / entrySize + 1) lies outside of the disk", .damagedEntries)
            }
            let units = stride(from: 56, to: 128, by: 2).map { UInt16(entry[$0]) | UInt16(entry[$0 + 1]) << 8 }
            table.partitions.append(
                Partition(
                    name: String(decoding: units.prefix { $0 != 0 }, as: UTF16.self),
                    type: GUID(onDisk: Array(entry[..<16])), guid: GUID(onDisk: Array(entry[16..<32])),
                    offset: first * sectorSize, size: (last - first + 1) * sectorSize))
        }
        let sorted = table.partitions.sorted { $0.offset < $1.offset }
        for (one, next) in zip(sorted, sorted.dropFirst()) where one.offset + one.size > next.offset {
            throw damaged("the partitions \(one.name) and \(next.name) overlap", .damagedEntries)
        }
        return table
    }

    // MARK: - Writing

    /// Writes the protective MBR and the table at the start, and its backup at the end.
    ///
    /// The backup is written first: after a power loss between the two writes, one of them is
    /// intact.
    public func write(to file: File) throws(SystemError) {
        let entries = self.entries
        try file.write(entries, at: backupEntries * sectorSize)
        try file.write(
            header(at: sectors - 1, other: 1, entriesAt: backupEntries, entries), at: (sectors - 1) * sectorSize)
        try file.sync()
        try file.write(protectiveMBR + header(at: 1, other: sectors - 1, entriesAt: 2, entries) + entries, at: 0)
    }

    /// True when the copy at the disk's end is this table.
    func hasBackup(in file: File) throws(SystemError) -> Bool {
        let entries = self.entries
        let header = header(at: sectors - 1, other: 1, entriesAt: backupEntries, entries)
        let end = try file.read(header.count, at: (sectors - 1) * sectorSize)
        return try file.read(entries.count, at: backupEntries * sectorSize) == entries && end == header
    }

    private var entries: [UInt8] {
        var bytes = LittleEndian()
        for partition in partitions {
            let start = bytes.bytes.count
            bytes.put(partition.type.bytes)
            bytes.put(partition.guid.bytes)
            bytes.put(UInt64(partition.offset / sectorSize))
            bytes.put(UInt64((partition.offset + partition.size) / sectorSize - 1))
            bytes.put(UInt64(0))
            for unit in partition.name.utf16.prefix(35) { bytes.put(unit) }
            bytes.pad(to: start + Self.entrySize)
        }
        bytes.pad(to: Self.entriesSize)
        return bytes.bytes
    }

    private func header(at sector: Int, other: Int, entriesAt: Int, _ entries: [UInt8]) -> [UInt8] {
        func build(checksum: UInt32) -> LittleEndian {
            var bytes = LittleEndian()
            bytes.put(Array("EFI PART".utf8))
            bytes.put(UInt32(0x0001_0000))
            bytes.put(UInt32(92))
            bytes.put(checksum)
            bytes.put(UInt32(0))
            bytes.put(UInt64(sector))
            bytes.put(UInt64(other))
            bytes.put(UInt64(2 + entrySectors))
            bytes.put(UInt64(backupEntries - 1))
            bytes.put(guid.bytes)
            bytes.put(UInt64(entriesAt))
            bytes.put(UInt32(Self.entryCount))
            bytes.put(UInt32(Self.entrySize))
            bytes.put(CRC32.iso(entries))
            return bytes
        }
        var bytes = build(checksum: CRC32.iso(build(checksum: 0).bytes))
        bytes.pad(to: sectorSize)
        return bytes.bytes
    }

    /// One sector, with the record in its first 512 bytes.
    private var protectiveMBR: [UInt8] {
        var bytes = LittleEndian()
        bytes.pad(to: 446)
        bytes.put([0x00, 0x00, 0x02, 0x00, 0xEE, 0xFF, 0xFF, 0xFF])
        bytes.put(UInt32(1))
        bytes.put(UInt32(clamping: sectors - 1))
        bytes.pad(to: 510)
        bytes.put([0x55, 0xAA])
        bytes.pad(to: sectorSize)
        return bytes.bytes
    }
}
