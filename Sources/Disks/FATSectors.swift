import Files
import Glibc

/// A FAT32 file system, converted to another sector size while it is read.
///
/// Linux mounts no FAT whose sectors are smaller than its disk's (fat_fill_super() of
/// fs/fat/inode.c), so the EFI system partition of an image, with sectors of 512 bytes, can't be
/// copied unchanged to a disk with sectors of 4096 bytes. Clusters, folders, files and table
/// entries stay the same. Only the boot sector and the offsets of the tables and the data change.
struct FATSectors: RandomAccess {
    private let source: any RandomAccess
    /// Offset of the file system in the source, in bytes.
    private let start: Int
    private let old: FATGeometry
    private let new: FATGeometry
    /// The reserved sectors.
    private let head: [UInt8]
    /// Bytes from the start to the end of the last allocated cluster.
    let end: Int

    var path: String { source.path }

    /// - Parameters:
    ///   - start: offset of the file system in the source, in bytes.
    ///   - sector: bytes of the new sectors.
    ///   - size: the largest size of the file system, in bytes.
    init(_ source: any RandomAccess, at start: Int, sector: Int, size: Int) throws {
        func geometry(_ source: some RandomAccess) throws -> (FATGeometry, Int) {
            let geometry = try FATGeometry(source, at: start)
            return (geometry, try FATUsage.lastCluster(geometry, source, at: start))
        }
        let (old, last) = try geometry(source)
        var new = old
        guard old.clusterSize % sector == 0 else {
            throw DiskFailure(
                "\(source.path): its EFI system partition has clusters of \(old.clusterSize) bytes, the disk has "
                    + "sectors of \(sector)", reason: .fileSystem,
                hint: "rebuild the image: this version of vcpe writes clusters of 4096 bytes")
        }
        new.sector = sector
        new.clusterSectors = old.clusterSize / sector
        // Space for the boot sector and FSInfo, and for their copies in sectors 6 and 7 as the
        // specification requires.
        new.reserved = sector == 512 ? 32 : 8
        new.information = 1
        new.tableSectors = ((old.clusters + 2) * 4).rounded(upTo: sector) / sector
        new.sectors = size / sector
        let clusters = min(old.clusters, new.clusters)
        guard clusters >= last - 1, clusters > 0 else {
            throw DiskFailure(
                "\(source.path): its EFI system partition has no room for larger sectors", reason: .fileSystem,
                hint: "raise partitions.esp by 1 MiB")
        }
        // The file system must end with its last cluster: further sectors would add free clusters.
        new.sectors = new.dataOffset / sector + clusters * new.clusterSectors
        head = try Self.head(source, start, old, new, lost: old.clusters - clusters)
        end = new.dataOffset + (last - 1) * new.clusterSize
        (self.source, self.start, self.old, self.new) = (source, start, old, new)
    }

    private static func head(
        _ source: any RandomAccess, _ start: Int, _ old: FATGeometry, _ new: FATGeometry, lost: Int
    ) throws -> [UInt8] {
        var boot = old.boot
        boot.put(UInt16(new.sector), at: 11)
        boot[13] = UInt8(new.clusterSectors)
        boot.put(UInt16(new.reserved), at: 14)
        boot.put(UInt32(new.sectors), at: 32)
        boot.put(UInt32(new.tableSectors), at: 36)
        boot.put(UInt16(new.information), at: 48)
        boot.put(UInt16(6), at: 50)
        var information = try source.read(512, at: start + old.information * old.sector)
        guard information.count == 512, information.integer(at: 484, UInt32.self) == 0x6141_7272 else {
            throw DiskFailure("\(source.path): its FAT32 file system has no FSInfo sector", reason: .fileSystem)
        }
        if let free = information.integer(at: 488, UInt32.self), free != .max {
            information.put(UInt32(max(0, Int(free) - lost)), at: 488)
        }
        var head = [UInt8](repeating: 0, count: new.reserved * new.sector)
        for copy in [0, 6] {
            head.replaceSubrange(copy * new.sector..<copy * new.sector + 512, with: boot)
            head.replaceSubrange((copy + 1) * new.sector..<(copy + 1) * new.sector + 512, with: information)
        }
        return head
    }

    func read(_ count: Int, at offset: Int) throws(SystemError) -> [UInt8] {
        var bytes: [UInt8] = []
        var position = offset
        let end = min(offset + count, new.sectors * new.sector)
        while position < end {
            let part = try piece(at: position, most: end - position)
            if part.isEmpty { break }
            bytes += part
            position += part.count
        }
        return bytes
    }

    /// Reads from one part of the file system: reserved sectors, a table or the data.
    private func piece(at position: Int, most: Int) throws(SystemError) -> [UInt8] {
        if position < head.count { return Array(head[position..<min(head.count, position + most)]) }
        let tableSize = new.tableSectors * new.sector
        if position >= new.dataOffset {
            return try source.read(most, at: start + old.dataOffset + position - new.dataOffset)
        }
        let (table, offset) = (position - head.count).quotientAndRemainder(dividingBy: tableSize)
        let used = (old.clusters + 2) * 4
        guard offset < used else { return [UInt8](repeating: 0, count: min(most, tableSize - offset)) }
        let from = start + old.reserved * old.sector + table * old.tableSectors * old.sector + offset
        return try source.read(min(most, used - offset), at: from)
    }

    func write(_ bytes: [UInt8], at offset: Int) throws(SystemError) { throw SystemError("pwrite", path, code: EROFS) }

    func sync() throws(SystemError) {}
}
