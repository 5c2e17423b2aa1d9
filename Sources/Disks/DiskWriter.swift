import CSystem
import Checksums
import Digests
import Files
import Glibc
import Slots

/// Writes a box's disk from an image file, or from the USB stick that the box runs from.
public struct DiskWriter {
    public enum Phase: String, Sendable { case blanking, writing, comparing }

    /// Bytes of a partition, and their source.
    public struct Piece {
        var source: any RandomAccess
        var from: Int
        /// The range on the target disk.
        var range: Range<Int>

        public init(_ source: any RandomAccess, from: Int, to range: Range<Int>) {
            (self.source, self.from, self.range) = (source, from, range)
        }
    }

    private let device: BlockDevice
    private let pieces: [Piece]
    private var table: PartitionTable
    /// Allows the box to keep its data on this disk although the disk is removable.
    public var mayFormatRemovable = false

    /// - Parameters:
    ///   - pieces: the contents of the EFI system partition and the root; partitions that the box
    ///     itself formats are blanked.
    ///   - table: the partition table of the source disk. The target gets new identifiers, and its
    ///     last partition extends to the end of the disk.
    /// - Throws: ``DiskFailure`` with the reason `unusable` when the device must not be written.
    public init(_ pieces: [Piece], table: PartitionTable, to device: BlockDevice) throws {
        if let obstacle = device.obstacle(needed: Self.needed(for: table)) {
            throw DiskFailure(
                "\(device.path) was not written: \(obstacle)", reason: .unusable,
                hint: device.remedy(needed: Self.needed(for: table)))
        }
        (self.device, self.table) = (device, table)
        guard device.sectorSize != table.sectorSize, let esp = table["esp"] else {
            self.pieces = pieces
            return
        }
        self.pieces = try pieces.map { piece in
            guard piece.range.lowerBound == esp.offset else { return piece }
            let converted = try FATSectors(piece.source, at: piece.from, sector: device.sectorSize, size: esp.size)
            return Piece(converted, from: 0, to: esp.offset..<esp.offset + converted.end)
        }
    }

    /// The smallest usable disk size in bytes. The last partition, data, may be smaller than in the
    /// image, but not smaller than 256 MiB.
    public static func needed(for table: PartitionTable) -> Int {
        guard let last = table.partitions.last else { return table.diskSize }
        return min(table.diskSize, last.offset + (256 << 20) + (1 << 20))
    }

    /// Blanks the partitions that the box formats, writes the others, verifies all of them, and
    /// writes the partition table last: firmware does not boot an unfinished disk.
    ///
    /// - Parameters:
    ///   - finish: changes the EFI system partition before the partition table makes it bootable.
    ///   - progress: called with the phase, the bytes done and the total bytes.
    public mutating func run(
        finish: (any RandomAccess) throws -> Void = { _ in }, progress: (Phase, Int, Int) -> Void
    ) throws {
        // Exclusive: the kernel refuses a device that has been mounted meanwhile (open(2), O_EXCL).
        let target = try File(device.path, O_RDWR | O_EXCL)
        try checkIdentity(target)
        // With its old table, a half-written disk would look complete.
        try target.write([UInt8](repeating: 0, count: 1 << 20), at: 0)
        try target.write([UInt8](repeating: 0, count: 1 << 20), at: device.size - (1 << 20))
        try target.sync()
        let blank = try ["state", "data"].compactMap { name -> (offset: Int, bytes: [UInt8])? in
            guard let partition = table[name] else { return nil }
            var bytes = [UInt8](repeating: 0, count: min(partition.size, 4 << 20))
            if name == "state" { bytes.replaceSubrange(0..<4096, with: firstStateRecord) }
            try target.write(bytes, at: partition.offset)
            return (partition.offset, bytes)
        }
        let total = pieces.reduce(0) { $0 + $1.range.count }
        // File systems expect zeros in unused blocks; old data there could be taken for current
        // data.
        try forEachChunk(16 << 20) { _, offset, count, done in
            guard csystem_zero(target.descriptor, UInt64(offset), UInt64(count)) == 0 else {
                throw SystemError("BLKZEROOUT", device.path)
            }
            progress(.blanking, done, total)
        }
        try forEachChunk(4 << 20) { piece, offset, count, done in
            let bytes = try Self.bytes(piece, offset, count)
            if bytes.contains(where: { $0 != 0 }) { try target.write(bytes, at: offset) }
            progress(.writing, done, total)
        }
        try target.sync()
        csystem_forget_buffers(target.descriptor)
        try forEachChunk(4 << 20) { piece, offset, count, done in
            guard try target.read(count, at: offset) == Self.bytes(piece, offset, count) else { throw differs(offset) }
            progress(.comparing, done, total)
        }
        for (offset, bytes) in blank where try target.read(bytes.count, at: offset) != bytes { throw differs(offset) }
        if let esp = table["esp"] {
            try finish(DiskRegion(of: target, offset: esp.offset, size: esp.size))
            try target.sync()
            let written = try Self.digest(of: target, from: esp.offset)
            // The next read must come from the disk, not from the page cache.
            csystem_forget_buffers(target.descriptor)
            guard try Self.digest(of: target, from: esp.offset) == written else { throw differs(esp.offset) }
        }

        table.guid = GUID.random()
        for i in table.partitions.indices { table.partitions[i].guid = GUID.random() }
        table = table.extended(to: device.size, sectorSize: device.sectorSize)
        try table.write(to: target)
        try target.sync()
        csystem_forget_buffers(target.descriptor)
        guard try PartitionTable.read(target) == table, try table.hasBackup(in: target) else {
            throw DiskFailure(
                "\(device.path): the partition table read back differs from the one written", reason: .comparison,
                hint: "use another disk")
        }
        csystem_reread_partitions(target.descriptor)
    }

    /// The digest of the used part of the EFI system partition.
    private static func digest(of target: File, from start: Int) throws -> Digest {
        let end = try FATUsage.end(of: target, at: start)
        var hash = SHA256()
        for offset in stride(from: 0, to: end, by: 4 << 20) {
            hash.update(try target.read(min(4 << 20, end - offset), at: start + offset))
        }
        return hash.finish()
    }

    private func differs(_ offset: Int) -> DiskFailure {
        DiskFailure(
            "\(device.path): bytes read back at offset \(offset) differ from the bytes written", reason: .comparison,
            hint: "use another disk: this one is defective, or smaller than it reports")
    }

    /// Calls `body` for all pieces in chunks of at most `most` bytes, with the offset on the disk,
    /// the chunk's size and the number of bytes done after it.
    private func forEachChunk(_ most: Int, _ body: (Piece, Int, Int, Int) throws -> Void) throws {
        var done = 0
        for piece in pieces {
            for offset in stride(from: piece.range.lowerBound, to: piece.range.upperBound, by: most) {
                let count = min(most, piece.range.upperBound - offset)
                done += count
                try body(piece, offset, count, done)
            }
        }
    }

    private static func bytes(_ piece: Piece, _ offset: Int, _ count: Int) throws -> [UInt8] {
        let bytes = try piece.source.read(count, at: piece.from + offset - piece.range.lowerBound)
        guard bytes.count == count else {
            throw DiskFailure("\(piece.source.path) is truncated: it ends within the data of the box's disk")
        }
        return bytes
    }

    /// The state record of a box that never booted, as `docs/boot.md` describes it.
    private var firstStateRecord: [UInt8] {
        var bytes = LittleEndian()
        guard mayFormatRemovable else { return [UInt8](repeating: 0, count: 4096) }
        bytes.put(Array("vcpestat".utf8))
        bytes.put(UInt64(0))
        bytes.put(UInt32(0))
        bytes.put([0, 1])
        bytes.pad(to: 4092)
        bytes.put(CRC32.iso(bytes.bytes))
        return bytes.bytes
    }

    /// Checks that the open device is the one that the operator confirmed. A device's name can
    /// change when sticks are unplugged.
    private func checkIdentity(_ target: File) throws {
        let size = lseek(target.descriptor, 0, SEEK_END)
        guard try Int(target.status().st_rdev) == device.number, Int(size) == device.size,
            try BlockDevice(device.path).sequence == device.sequence
        else {
            throw DiskFailure(
                "\(device.path) was replaced by another disk: nothing was written", reason: .unusable,
                hint: "find the disk with lsblk, and run the command again with its path")
        }
    }
}

/// A region of a disk, such as a partition that the kernel has not read yet.
public struct DiskRegion: RandomAccess {
    private let disk: File
    private let offset: Int
    public let size: Int

    public init(of disk: File, offset: Int, size: Int) { (self.disk, self.offset, self.size) = (disk, offset, size) }

    public var path: String { disk.path }

    public func read(_ count: Int, at position: Int) throws(SystemError) -> [UInt8] {
        try disk.read(max(0, min(count, size - position)), at: offset + position)
    }

    public func write(_ bytes: [UInt8], at position: Int) throws(SystemError) {
        guard position >= 0, position + bytes.count <= size else { throw SystemError("pwrite", path, code: ENOSPC) }
        try disk.write(bytes, at: offset + position)
    }

    public func sync() throws(SystemError) { try disk.sync() }
}
