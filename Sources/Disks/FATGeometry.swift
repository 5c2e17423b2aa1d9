import Files

/// The BIOS parameter block of a FAT32 file system (Microsoft's FAT specification 1.03, section 3),
/// checked for consistency.
struct FATGeometry {
    /// The boot sector's first 512 bytes.
    var boot: [UInt8]
    /// Bytes.
    var sector: Int
    var clusterSectors: Int
    var reserved: Int
    var tables: Int
    /// Sectors of one table.
    var tableSectors: Int
    /// Sectors of the file system.
    var sectors: Int
    /// The FSInfo sector, which has the count of free clusters.
    var information: Int

    /// - Parameter start: offset of the file system, in bytes.
    /// - Throws: ``DiskFailure`` for anything but FAT32.
    init(_ storage: some RandomAccess, at start: Int) throws {
        let boot = try storage.read(512, at: start)
        func failure(_ what: String) -> DiskFailure {
            DiskFailure("\(storage.path) has no FAT32 file system at byte \(start): \(what)", reason: .fileSystem)
        }
        func number<Value: FixedWidthInteger>(_ offset: Int, _: Value.Type) throws -> Int {
            guard let value = boot.integer(at: offset, Value.self) else {
                throw failure("the boot sector is truncated")
            }
            return Int(value)
        }
        guard boot.count == 512, boot[510] == 0x55, boot[511] == 0xAA else {
            throw failure("the boot sector has no signature")
        }
        self.boot = boot
        sector = try number(11, UInt16.self)
        clusterSectors = Int(boot[13])
        reserved = try number(14, UInt16.self)
        tables = Int(boot[16])
        sectors = try number(32, UInt32.self)
        tableSectors = try number(36, UInt32.self)
        information = try number(48, UInt16.self)
        guard [512, 1024, 2048, 4096].contains(sector) else { throw failure("found sectors of \(sector) bytes") }
        guard clusterSectors > 0, clusterSectors & (clusterSectors - 1) == 0, reserved > 0, (1...2).contains(tables)
        else { throw failure("found \(clusterSectors) sectors a cluster, \(reserved) reserved, \(tables) tables") }
        // FAT32 has at most 2^28 clusters, whose table takes 1 GiB.
        guard tableSectors > 0, tableSectors <= (1 << 30) / sector, sectors > reserved + tables * tableSectors else {
            throw failure("found a table of \(tableSectors) sectors in a file system of \(sectors)")
        }
    }

    /// Bytes.
    var clusterSize: Int { sector * clusterSectors }
    /// Bytes from the file system's start.
    var dataOffset: Int { (reserved + tables * tableSectors) * sector }
    /// The number of clusters that fit into both the table and the file system. Cluster numbers
    /// start at 2.
    var clusters: Int {
        min((sectors * sector - dataOffset) / clusterSize, tableSectors * sector / 4 - 2)
    }
}
