import Files

/// A GUID partition table (UEFI 2.10, chapter 5) for disks with sectors of 512 bytes.
public struct PartitionTable: Sendable, Hashable {
    public struct Partition: Sendable, Hashable {
        public var name: String
        public var type: GUID
        public var guid: GUID
        /// In sectors.
        public var firstSector: Int
        /// In sectors, inclusive.
        public var lastSector: Int

        /// Bytes.
        public var size: Int { (lastSector - firstSector + 1) * PartitionTable.sectorSize }
        /// Bytes from the start of the disk.
        public var offset: Int { firstSector * PartitionTable.sectorSize }
    }

    /// Bytes of a sector.
    public static let sectorSize = 512
    /// Sectors of header and entries at either end of the disk.
    public static let reservedSectors = 33

    /// The types that the box's partitions have (Discoverable Partitions Specification, UAPI.2).
    public enum Kind {
        public static let efiSystem = known("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
        public static let linuxData = known("0fc63daf-8483-4772-8e79-3d69d8477de4")
        public static let root = known("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
        /// Our own: the 1 MiB in which PID 1 counts failed starts.
        public static let state = GUID(named: "vcpe partition type state")

        private static func known(_ text: String) -> GUID { GUID(text) ?? GUID(named: text) }
    }

    public var guid: GUID
    public var partitions: [Partition]
    /// Sectors of the whole disk.
    public var sectors: Int

    public init(guid: GUID, partitions: [Partition], sectors: Int) {
        self.guid = guid
        self.partitions = partitions
        self.sectors = sectors
    }

    /// It has the partitions of a box.
    public var isBox: Bool { ["esp", "state", "root-a", "root-b", "data"].allSatisfy { self[$0] != nil } }

    /// The partition with this name.
    public subscript(name: String) -> Partition? { partitions.first { $0.name == name } }

    /// Lays partitions out one after the other, each aligned to 1 MiB.
    ///
    /// - Parameter wanted: sizes in bytes.
    public init(guid: GUID, wanted: [(name: String, type: GUID, guid: GUID, size: Int)]) {
        let mebibyte = (1 << 20) / Self.sectorSize
        var next = mebibyte
        partitions = wanted.map { item in
            let count = (item.size / Self.sectorSize).rounded(upTo: mebibyte)
            defer { next += count }
            return Partition(
                name: item.name, type: item.type, guid: item.guid, firstSector: next, lastSector: next + count - 1)
        }
        self.guid = guid
        sectors = next + mebibyte
    }

    /// Reads the table at the start of a disk or an image.
    public static func read(_ file: File) throws -> PartitionTable { try read(file, header: 512) }

    /// Reads the copy at a disk's end.
    ///
    /// - Parameter size: of the disk, in bytes.
    public static func readBackup(_ file: File, size: Int) throws -> PartitionTable {
        try read(file, header: size - sectorSize)
    }

    private static func read(_ file: File, header place: Int) throws -> PartitionTable {
        let header = try file.read(512, at: place)
        guard header.starts(with: Array("EFI PART".utf8)), let checksum = header.integer(at: 88, UInt32.self),
            let own = header.integer(at: 24, UInt64.self), let other = header.integer(at: 32, UInt64.self),
            let start = header.integer(at: 72, UInt64.self)
        else { throw DiskFailure("\(file.path) has no GUID partition table") }
        let backup = max(own, other)
        let entries = try file.read(128 * 128, at: Int(clamping: start) &* sectorSize)
        guard CRC32.iso(entries) == checksum else { throw DiskFailure("\(file.path): its partition table is damaged") }
        let partitions = stride(from: 0, to: entries.count, by: 128).compactMap { start -> Partition? in
            let entry = Array(entries[start..<start + 128])
            guard entry[..<16].contains(where: { $0 != 0 }), let first = entry.integer(at: 32, UInt64.self),
                let last = entry.integer(at: 40, UInt64.self)
            else { return nil }
            let units = stride(from: 56, to: 128, by: 2).map { UInt16(entry[$0]) | UInt16(entry[$0 + 1]) << 8 }
            return Partition(
                name: String(decoding: units.prefix { $0 != 0 }, as: UTF16.self),
                type: GUID(onDisk: Array(entry[..<16])), guid: GUID(onDisk: Array(entry[16..<32])),
                firstSector: Int(clamping: first), lastSector: Int(clamping: last))
        }
        return PartitionTable(
            guid: GUID(onDisk: Array(header[56..<72])), partitions: partitions, sectors: Int(clamping: backup) + 1)
    }

    /// Bytes of the whole disk.
    public var diskSize: Int { sectors * Self.sectorSize }

    /// Writes the protective MBR and the table at the start, and its backup at the end.
    ///
    /// The backup goes first: power may fail between the two, and one of them is always whole.
    public func write(to file: File) throws(SystemError) {
        let entries = self.entries
        let backup = sectors - Self.reservedSectors
        try file.write(entries, at: backup * Self.sectorSize)
        try file.write(
            header(at: sectors - 1, other: 1, entriesAt: backup, entries), at: (sectors - 1) * Self.sectorSize)
        try file.sync()
        try file.write(protectiveMBR + header(at: 1, other: sectors - 1, entriesAt: 2, entries) + entries, at: 0)
    }

    /// True when the copy at the disk's end is this table.
    func hasBackup(in file: File) throws(SystemError) -> Bool {
        let backup = sectors - Self.reservedSectors
        let entries = self.entries
        let header = header(at: sectors - 1, other: 1, entriesAt: backup, entries)
        let end = try file.read(header.count, at: (sectors - 1) * Self.sectorSize)
        return try file.read(entries.count, at: backup * Self.sectorSize) == entries && end == header
    }

    private var entries: [UInt8] {
        var bytes = LittleEndian()
        for partition in partitions {
            let start = bytes.bytes.count
            bytes.put(partition.type.bytes)
            bytes.put(partition.guid.bytes)
            bytes.put(UInt64(partition.firstSector))
            bytes.put(UInt64(partition.lastSector))
            bytes.put(UInt64(0))
            for unit in partition.name.utf16.prefix(35) { bytes.put(unit) }
            bytes.pad(to: start + 128)
        }
        bytes.pad(to: 128 * 128)
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
            bytes.put(UInt64(Self.reservedSectors + 1))
            bytes.put(UInt64(sectors - Self.reservedSectors - 1))
            bytes.put(guid.bytes)
            bytes.put(UInt64(entriesAt))
            bytes.put(UInt32(128))
            bytes.put(UInt32(128))
            bytes.put(CRC32.iso(entries))
            return bytes
        }
        var bytes = build(checksum: CRC32.iso(build(checksum: 0).bytes))
        bytes.pad(to: Self.sectorSize)
        return bytes.bytes
    }

    private var protectiveMBR: [UInt8] {
        var bytes = LittleEndian()
        bytes.pad(to: 446)
        bytes.put([0x00, 0x00, 0x02, 0x00, 0xEE, 0xFF, 0xFF, 0xFF])
        bytes.put(UInt32(1))
        bytes.put(UInt32(clamping: sectors - 1))
        bytes.pad(to: 510)
        bytes.put([0x55, 0xAA])
        return bytes.bytes
    }
}
