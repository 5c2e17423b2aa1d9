import CSystem
import Files
import Glibc

/// Writes a built image on a disk: for premises servers and USB sticks.
public struct Flash: Sendable {
    public enum Phase: String, Sendable { case blanking, writing, comparing }

    let image: BuiltImage
    let device: BlockDevice

    public init(_ image: BuiltImage, to device: BlockDevice) throws {
        self.image = image
        self.device = device
        let needed = Int(try File(image.raw).status().st_size)
        if let obstacle = device.obstacle(needed: needed) {
            throw BuildFailure("nothing is written to \(device.path): \(obstacle)")
        }
    }

    /// Writes what holds data, blanks what the box will format, gives the disk identifiers of its own, and reads all
    /// back.
    ///
    /// - Parameters:
    ///   - site: the bytes of a site document, put in its place on the EFI system partition.
    ///   - progress: bytes done, of all.
    public func run(site: [UInt8]?, cache: Cache, progress: (Phase, Int, Int) -> Void) throws {
        let raw = try File(image.raw)
        // Exclusive: the kernel refuses when somebody mounted it meanwhile.
        let target = try File(device.path, O_RDWR | O_EXCL)
        var table = try PartitionTable.read(raw)
        try checkIdentity(target)
        let putSite = try site.map { try prepare($0, table: table, cache: cache) }
        let extents = try Sparse.extents(of: raw, unit: 1 << 16)
        // File systems count on zeros where the image has holes; what another life left there would be found.
        let written = try ["esp", "root-a"].compactMap { name -> Range<Int>? in
            guard let partition = table[name] else { return nil }
            let end = partition.offset + partition.size
            let last = extents.last { $0.offset >= partition.offset && $0.offset < end }
            let used =
                name == "esp"
                ? partition.offset + (try FATUsage.end(of: raw, at: partition.offset))
                : last.map { $0.offset + $0.count } ?? partition.offset
            return partition.offset..<min(used, end)
        }
        let total = extents.reduce(0) { $0 + $1.count }

        // An old table at the end would be found again; a half-written disk must not look like a whole one.
        try target.write([UInt8](repeating: 0, count: 1 << 20), at: 0)
        try target.write([UInt8](repeating: 0, count: 1 << 20), at: device.size - (1 << 20))
        let blank = try ["state", "data"].compactMap { name -> (offset: Int, bytes: [UInt8])? in
            guard let partition = table[name] else { return nil }
            var bytes = [UInt8](repeating: 0, count: min(partition.size, 4 << 20))
            if name == "state" { bytes.replaceSubrange(0..<4096, with: firstStateRecord) }
            try target.write(bytes, at: partition.offset)
            return (partition.offset, bytes)
        }
        for range in written {
            for start in stride(from: range.lowerBound, to: range.upperBound, by: 16 << 20) {
                let count = min(16 << 20, range.upperBound - start)
                guard csystem_zero(target.descriptor, UInt64(start), UInt64(count)) == 0 else {
                    throw SystemError("BLKZEROOUT", device.path)
                }
                progress(.blanking, start + count - range.lowerBound, range.count)
            }
        }
        var done = 0
        // The table comes last.
        let first = table.partitions.map(\.offset).min() ?? 1 << 20
        for extent in extents {
            for start in stride(from: 0, to: extent.count, by: 4 << 20) {
                let offset = extent.offset + start
                let count = min(4 << 20, extent.count - start)
                if offset >= first, offset < table.diskSize - (1 << 20) {
                    try target.write(try raw.read(count, at: offset), at: offset)
                }
                done += count
                progress(.writing, done, total)
            }
        }
        try target.sync()

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

        done = 0
        let all = written.reduce(0) { $0 + $1.count }
        for range in written {
            for offset in stride(from: range.lowerBound, to: range.upperBound, by: 4 << 20) {
                let count = min(4 << 20, range.upperBound - offset)
                if try target.read(count, at: offset) != raw.read(count, at: offset) {
                    throw BuildFailure(
                        "\(device.path) does not give back what was written at byte \(offset)",
                        hint: "another disk: this one is broken, or not as large as it says")
                }
                done += count
                progress(.comparing, done, all)
            }
        }
        for (offset, bytes) in blank where try target.read(bytes.count, at: offset) != bytes {
            throw BuildFailure(
                "\(device.path) does not give back what was written at byte \(offset)", hint: "another disk")
        }
        guard try PartitionTable.read(target) == table, try table.hasBackup(in: target) else {
            throw BuildFailure("\(device.path) does not give back its partition table", hint: "another disk")
        }
        try putSite?()
        csystem_reread_partitions(target.descriptor)
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
        guard try Int(target.status().st_rdev) == device.number, Int(size) == device.size else {
            throw BuildFailure("\(device.path) is another disk than a moment ago: nothing was written")
        }
        let sector = csystem_sector_size(target.descriptor)
        guard sector == PartitionTable.sectorSize else {
            throw BuildFailure(
                "\(device.path) has sectors of \(sector) bytes; allowed is a disk with sectors of 512",
                hint: "many disks of 4096 can be set to 512: nvme format --lbaf, or the maker's tool")
        }
    }

    /// Puts the site document in its place by mtools of the image's own lock, straight into the partition. What could be
    /// missing is looked for at once, before the disk is touched.
    private func prepare(_ site: [UInt8], table: PartitionTable, cache: Cache) throws -> () throws -> Void {
        guard let esp = table["esp"],
            let lock = try Lock.read("\(imagesFolder)/\(FileSystem.name(of: image.folder)).lock")
        else { throw BuildFailure("the image's lock, which names mtools, is not in \(imagesFolder)") }
        let packages = try (lock.sections[Lock.tools] ?? []).map { try UnpackedPackage.read($0, cache: cache) }
        let tools = try Tools(packages, cache: cache)
        return { try put(site, at: esp.offset, tools: tools) }
    }

    private func put(_ site: [UInt8], at offset: Int, tools: Tools) throws {
        let scratch = try FileSystem.makeTemporaryDirectory(
            in: image.folder, prefix: FileSystem.temporaryPrefix + "site")
        defer { try? FileSystem.remove(scratch) }
        try FileSystem.replace("\(scratch)/site.yaml", with: site)
        let place = "\(device.path)@@\(offset)"
        try tools.command("usr/bin/mcopy", ["-o", "-i", place, "\(scratch)/site.yaml", "::vcpe/site.yaml"]).check()
        // What is read back comes from the disk, not from memory.
        let written = try File(device.path, O_RDWR)
        try written.sync()
        csystem_forget_buffers(written.descriptor)
        let back = try tools.command("usr/bin/mtype", ["-i", place, "::vcpe/site.yaml"]).check()
        guard back.output == site else { throw BuildFailure("\(device.path) does not give back the site document") }
    }

    /// Where the locks are.
    public var imagesFolder = "images"
    /// The box keeps its data on this disk although it is removable.
    public var mayFormatRemovable = false
}
