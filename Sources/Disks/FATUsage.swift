import Files

/// How far a FAT32 file system is used: what lies behind holds nothing that anybody reads.
public enum FATUsage {
    /// Bytes from the file system's start to the end of its last allocated cluster (Microsoft's FAT specification 1.03).
    public static func end(of file: File, at start: Int) throws -> Int {
        let boot = try file.read(512, at: start)
        guard let sector = boot.integer(at: 11, UInt16.self).map(Int.init), boot.count == 512, sector > 0,
            let reserved = boot.integer(at: 14, UInt16.self).map(Int.init),
            let tableSectors = boot.integer(at: 36, UInt32.self).map(Int.init), tableSectors > 0
        else { throw DiskFailure("\(file.path) has no FAT32 file system at byte \(start)") }
        let (clusterSectors, tables) = (Int(boot[13]), Int(boot[16]))
        let table = try file.read(tableSectors * sector, at: start + reserved * sector)
        // Clusters count from 2; the entries before say other things.
        let last = stride(from: table.count - 4, through: 8, by: -4).first { offset in
            (table.integer(at: offset, UInt32.self) ?? 0) & 0x0FFF_FFFF != 0
        }
        let clusters = last.map { $0 / 4 - 1 } ?? 0
        return (reserved + tables * tableSectors + clusters * clusterSectors) * sector
    }
}
