import Files

/// Where a FAT file system has its parts, as its first sector says (Microsoft: FAT specification
/// 1.03).
struct FATLayout {
    enum Kind: Int { case fat12 = 12, fat16 = 16, fat32 = 32 }

    let kind: Kind
    /// Bytes of a sector, and of a cluster.
    let sector, clusterSize: Int
    /// Sectors before the tables.
    let reserved: Int
    /// How many tables there are, where the first begins, and the bytes of each.
    let tables, tableOffset, tableSize: Int
    /// Where the root folder of FAT12 and FAT16 begins, and its bytes; none in FAT32.
    let rootOffset, rootSize: Int
    /// FAT32's.
    let rootCluster, infoSector: Int
    /// Where cluster 2 begins.
    let dataOffset: Int
    let clusters: Int

    init(_ storage: any RandomAccess) throws(SlotFailure) {
        let boot = try storage.bytes(512, at: 0)
        guard boot.count == 512, boot[510] == 0x55, boot[511] == 0xAA else {
            throw SlotFailure("\(storage.path) holds no FAT file system")
        }
        (sector, reserved) = (boot.number(at: 11, 2), boot.number(at: 14, 2))
        let few = (sectors: boot.number(at: 19, 2), tableSectors: boot.number(at: 22, 2))
        let sectors = few.sectors > 0 ? few.sectors : boot.number(at: 32, 4)
        let tableSectors = few.tableSectors > 0 ? few.tableSectors : boot.number(at: 36, 4)
        guard [512, 1024, 2048, 4096].contains(sector), boot[13] > 0, boot[13] & (boot[13] - 1) == 0, reserved > 0,
            (1...2).contains(boot[16]), tableSectors > 0, tableSectors < 1 << 20
        else { throw SlotFailure("\(storage.path) holds no FAT file system") }
        clusterSize = sector * Int(boot[13])
        (tables, tableOffset, tableSize) = (Int(boot[16]), reserved * sector, tableSectors * sector)
        rootOffset = tableOffset + tables * tableSize
        rootSize = (boot.number(at: 17, 2) * 32 + sector - 1) / sector * sector
        dataOffset = rootOffset + rootSize
        clusters = (sectors * sector - dataOffset) / clusterSize
        // The number of clusters decides, not what the sector says in letters.
        let kind: Kind = few.tableSectors == 0 ? .fat32 : clusters < 4085 ? .fat12 : .fat16
        self.kind = kind
        rootCluster = kind == .fat32 ? boot.number(at: 44, 4) : 0
        infoSector = kind == .fat32 ? boot.number(at: 48, 2) : 0
        guard clusters > 0, (clusters + 2) * kind.rawValue <= tableSize * 8,
            kind == .fat32 ? rootSize == 0 : rootSize > 0
        else { throw SlotFailure("\(storage.path): its FAT file system is damaged") }
    }

    func offset(of cluster: Int) -> Int { dataOffset + (cluster - 2) * clusterSize }

    /// Whether a number is that of a cluster; ends of chains and bad ones are none.
    func isCluster(_ number: Int) -> Bool { (2..<clusters + 2).contains(number) }
}
