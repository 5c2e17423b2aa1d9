import Files

/// Finds the used part of a FAT32 file system: no data follows its last allocated cluster.
public enum FATUsage {
    /// Bytes from the file system's start to the end of its last allocated cluster.
    ///
    /// - Parameter start: offset of the file system, in bytes.
    /// - Throws: ``DiskFailure`` for anything but FAT32.
    public static func end(of storage: some RandomAccess, at start: Int) throws -> Int {
        let geometry = try FATGeometry(storage, at: start)
        return geometry.dataOffset + (try lastCluster(geometry, storage, at: start) - 1) * geometry.clusterSize
    }

    /// The number of the last allocated cluster; 1 if none is allocated.
    static func lastCluster(_ geometry: FATGeometry, _ storage: some RandomAccess, at start: Int) throws -> Int {
        let table = try storage.read(
            (geometry.clusters + 2) * 4, at: start + geometry.reserved * geometry.sector)
        // Cluster numbers start at 2; the first two entries are the media type and flags.
        let last = stride(from: table.count / 4 * 4 - 4, through: 8, by: -4).first { offset in
            (table.integer(at: offset, UInt32.self) ?? 0) & 0x0FFF_FFFF != 0
        }
        return last.map { $0 / 4 } ?? 1
    }
}
