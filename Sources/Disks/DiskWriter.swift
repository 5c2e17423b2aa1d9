import CSystem
import Digests
import Files
import Glibc
import Slots

/// Makes a disk a box's: from an image's file, or from the stick that a box runs from.
public struct DiskWriter {
    public enum Phase: String, Sendable { case blanking, writing, comparing }

    /// Bytes of a partition, from wherever they are.
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
    ///   - table: of the disk that the pieces are from; the new one's has identifiers of its own, and goes to its end.
    ///   - pieces: what is to be on the disk of the EFI system partition and the root; what the box itself formats is blanked.
    public init(_ pieces: [Piece], table: PartitionTable, to device: BlockDevice) throws {
        (self.device, self.pieces, self.table) = (device, pieces, table)
        if let obstacle = device.obstacle(needed: Self.needed(for: table)) {
            throw DiskFailure("nothing is written to \(device.path): \(obstacle)")
        }
    }

    /// Bytes that a disk must have. What the last partition has more than this the box can do without: it goes to the disk's end, whichever that is.
    public static func needed(for table: PartitionTable) -> Int {
        guard let last = table.partitions.last else { return table.diskSize }
        return min(table.diskSize, last.offset + (256 << 20) + (1 << 20))
    }

    /// Blanks what the box will format, writes, reads all back, and puts the table there last: a disk that was not finished is none.
    ///
    /// - Parameters:
    ///   - finish: changes what was written of the EFI system partition, before anybody could start from it.
    ///   - progress: bytes done, of all.
    public mutating func run(
        finish: (any RandomAccess) throws -> Void = { _ in }, progress: (Phase, Int, Int) -> Void
    ) throws {
        // Exclusive: the kernel refuses when somebody mounted it meanwhile.
        let target = try File(device.path, O_RDWR | O_EXCL)
        try checkIdentity(target)
        // An old table would be found again; a half-written disk must not look like a whole one.
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
        // File systems count on zeros where they hold nothing; what another life left there would be found.
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
            // What is read back comes from the disk, not from memory.
            csystem_forget_buffers(target.descriptor)
            guard try Self.digest(of: target, from: esp.offset) == written else { throw differs(esp.offset) }
        }

        table.guid = GUID.random()
        for i in table.partitions.indices { table.partitions[i].guid = GUID.random() }
        table.sectors = device.size / PartitionTable.sectorSize
        if let last = table.partitions.indices.last {
            let mebibyte = (1 << 20) / PartitionTable.sectorSize
            table.partitions[last].lastSector = (table.sectors - 34) / mebibyte * mebibyte - 1
        }
        try table.write(to: target)
        try target.sync()
        csystem_forget_buffers(target.descriptor)
        guard try PartitionTable.read(target) == table, try table.hasBackup(in: target) else {
            throw DiskFailure("\(device.path) does not give back its partition table", hint: "another disk")
        }
        csystem_reread_partitions(target.descriptor)
    }

    /// Of what is used of the EFI system partition.
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
            "\(device.path) does not give back what was written at byte \(offset)",
            hint: "another disk: this one is broken, or not as large as it says")
    }

    /// All pieces, some bytes at a time; with the place on the disk, and the bytes that are done then.
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

    /// The state record of a box that never started, as `docs/boot.md` has it.
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

    /// The device that was shown to a person must be the one that is open now: names move when sticks are replugged.
    private func checkIdentity(_ target: File) throws {
        let size = lseek(target.descriptor, 0, SEEK_END)
        guard try Int(target.status().st_rdev) == device.number, Int(size) == device.size,
            try BlockDevice(device.path).sequence == device.sequence
        else {
            throw DiskFailure("\(device.path) is another disk than a moment ago: nothing was written")
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
