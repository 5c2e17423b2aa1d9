import CSystem
import Digests
import Files
import Glibc
import Slots

/// Writes a box's disk: from an image's file, or from the stick that a box runs from.
public struct DiskWriter {
    public enum Phase: String, Sendable { case blanking, writing, comparing }

    /// Bytes of a partition, and their source.
    public struct Piece {
        var source: any RandomAccess
        var from: Int
        /// On the disk that is written.
        var range: Range<Int>

        public init(_ source: any RandomAccess, from: Int, to range: Range<Int>) {
            (self.source, self.from, self.range) = (source, from, range)
        }
    }

    private let device: BlockDevice
    private let pieces: [Piece]
    private var table: PartitionTable
    /// The box keeps its data on this disk although it is removable.
    public var mayFormatRemovable = false

    /// - Parameters:
    ///   - pieces: the contents of the EFI system partition and the root; partitions that the box
    ///     itself formats are blanked.
    ///   - table: of the disk that the pieces are from; the new disk's table has identifiers of its
    ///     own, and its last partition goes to the disk's end.
    /// - Throws: ``DiskFailure`` with the reason `unusable` when nothing may be written to the
    ///   device.
    public init(_ pieces: [Piece], table: PartitionTable, to device: BlockDevice) throws {
        if let obstacle = device.obstacle(needed: Self.needed(for: table)) {
            throw DiskFailure("nothing is written to \(device.path): \(obstacle)", reason: .unusable)
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

    /// Bytes that a disk must have: the last partition, data, may be smaller than in an image, but
    /// not below 256 MiB.
    public static func needed(for table: PartitionTable) -> Int {
        guard let last = table.partitions.last else { return table.diskSize }
        return min(table.diskSize, last.offset + (256 << 20) + (1 << 20))
    }

    /// Blanks the partitions that the box formats, writes the others, reads all back, and writes
    /// the partition table last: firmware boots no disk that was not finished.
    ///
    /// - Parameters:
    ///   - finish: changes the written EFI system partition, before any firmware could boot from
    ///     it.
    ///   - progress: bytes done, of all.
    public mutating func run(
        finish: (any RandomAccess) throws -> Void = { _ in }, progress: (Phase, Int, Int) -> Void
    ) throws {
        // Exclusive: the kernel refuses a device that was mounted meanwhile (open(2), O_EXCL).
        let target = try File(device.path, O_RDWR | O_EXCL)
        try checkIdentity(target)
        // An old table would be found again; a disk that is half written must not look like a whole
        // one.
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
        // File systems expect zeros where they hold nothing; leftovers of an earlier use would be
        // found.
        try each(16 << 20) { _, offset, count, done in
            guard csystem_zero(target.descriptor, UInt64(offset), UInt64(count)) == 0 else {
                throw SystemError("BLKZEROOUT", device.path)
            }
            progress(.blanking, done, total)
        }
        try each(4 << 20) { piece, offset, count, done in
            let bytes = try Self.bytes(piece, offset, count)
            if bytes.contains(where: { $0 != 0 }) { try target.write(bytes, at: offset) }
            progress(.writing, done, total)
        }
        try target.sync()
        csystem_forget_buffers(target.descriptor)
        try each(4 << 20) { piece, offset, count, done in
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
                "\(device.path) does not read back its partition table", reason: .comparison, hint: "use another disk")
        }
        csystem_reread_partitions(target.descriptor)
    }

    /// Of the used part of the EFI system partition.
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
            "\(device.path) reads back other bytes than were written at byte \(offset)", reason: .comparison,
            hint: "use another disk: this one is broken, or smaller than it says")
    }

    /// All pieces, some bytes at a time; with the place on the disk, and the bytes that are then
    /// done.
    private func each(_ most: Int, _ body: (Piece, Int, Int, Int) throws -> Void) throws {
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
            throw DiskFailure("\(piece.source.path) ends where bytes of the box's disk should be")
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

    /// The device that the operator has confirmed must be the one that is open now: names move when
    /// sticks are replugged.
    private func checkIdentity(_ target: File) throws {
        let size = lseek(target.descriptor, 0, SEEK_END)
        guard try Int(target.status().st_rdev) == device.number, Int(size) == device.size,
            try BlockDevice(device.path).sequence == device.sequence
        else {
            throw DiskFailure(
                "\(device.path) is another disk than a moment ago: nothing was written", reason: .unusable)
        }
    }
}

/// A part of a disk, such as a partition before the kernel knows of it.
public struct DiskRegion: RandomAccess {
    private let disk: File
    private let offset: Int
    public let size: Int

    public init(of disk: File, offset: Int, size: Int) { (self.disk, self.offset, self.size) = (disk, offset, size) }

    public var path: String { disk.path }

    public func read(_ count: Int, at place: Int) throws(SystemError) -> [UInt8] {
        try disk.read(max(0, min(count, size - place)), at: offset + place)
    }

    public func write(_ bytes: [UInt8], at place: Int) throws(SystemError) {
        guard place >= 0, place + bytes.count <= size else { throw SystemError("pwrite", path, code: ENOSPC) }
        try disk.write(bytes, at: offset + place)
    }

    public func sync() throws(SystemError) { try disk.sync() }
}
