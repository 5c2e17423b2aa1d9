import Checksums
import Digests
import Files
import Glibc
import Processes
import Testing

@testable import Disks
@testable import ImageBuilder

/// Disks as they are found in machines: with sectors of either size, damaged, or made to do harm.
@Suite(.serialized) final class DiskTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-disks") }

    deinit {
        for name in (try? FileSystem.list(folder)) ?? [] where name.hasSuffix(".loop") {
            let device = (try? FileSystem.read("\(folder)/\(name)")).map { String(decoding: $0, as: UTF8.self) } ?? ""
            _ = try? Command("losetup", ["-d", device]).run()
        }
        try? FileSystem.remove(folder)
    }

    /// A sparse file as a disk; it is detached at the test's end.
    func loopDevice(_ name: String, size: Int, sectorSize: Int) throws -> (device: String, file: String) {
        let path = "\(folder)/\(name)"
        try File(path, O_RDWR | O_CREAT).resize(to: size)
        let device = try Command(
            "losetup", ["--find", "--show", "--partscan", "--sector-size", "\(sectorSize)", path]
        ).check().text.filter { $0 != "\n" }
        try FileSystem.replace("\(folder)/\(name).loop", with: device)
        return (device, path)
    }

    func sample(sectorSize: Int = 512) throws -> PartitionTable {
        var table = PartitionTable(
            guid: GUID(named: "disk"),
            wanted: [
                ("esp", PartitionTable.Kind.efiSystem, GUID(named: "esp"), 40 << 20),
                ("state", PartitionTable.Kind.state, GUID(named: "state"), 1 << 20),
                ("root-a", PartitionTable.Kind.root, GUID(named: "a"), 3 << 20),
                ("root-b", PartitionTable.Kind.root, GUID(named: "b"), 3 << 20),
                ("data", PartitionTable.Kind.linuxData, GUID(named: "data"), 8 << 20),
            ])
        table.sectorSize = sectorSize
        return table
    }

    // MARK: - Partition tables

    @Test(arguments: [512, 4096]) func aTableIsReadBackAndSatisfiesItsCheckerForBothSectorSizes(sectorSize: Int) throws
    {
        let table = try sample(sectorSize: sectorSize)
        let disk = try loopDevice("disk-\(sectorSize)", size: table.diskSize, sectorSize: sectorSize)
        let file = try File(disk.device, O_RDWR)
        try table.write(to: file)
        try file.sync()
        #expect(try PartitionTable.read(file) == table)
        #expect(try PartitionTable.readBackup(file, size: table.diskSize) == table)
        let check = try Command("sgdisk", ["--verify", disk.device]).check().text
        #expect(check.contains("No problems found"), "\(check)")
        let rows = try Command("sfdisk", ["--dump", disk.device]).check().text
        #expect(rows.contains("start=\(pad(table["root-a"].map { $0.offset / sectorSize } ?? 0)),"), "\(rows)")
        // As the kernel has them.
        _ = try Command("partx", ["-u", disk.device]).run()
        let size = try Command("blockdev", ["--getsize64", "\(disk.device)p4"]).check().text
        #expect(size == "\(3 << 20)\n")
    }

    /// As sfdisk aligns numbers.
    private func pad(_ number: Int) -> String {
        let text = String(number)
        return String(repeating: " ", count: max(0, 12 - text.count)) + text
    }

    /// Writes a table whose header or entries were changed, with checksums that are right again.
    func changed(_ change: (inout [UInt8], inout [UInt8]) -> Void, fixing: Bool = true) throws -> File {
        let file = try File("\(folder)/changed", O_RDWR | O_CREAT | O_TRUNC)
        let table = try sample()
        try file.resize(to: table.diskSize)
        try table.write(to: file)
        var (header, entries) = (try file.read(512, at: 512), try file.read(128 * 128, at: 1024))
        change(&header, &entries)
        if fixing {
            header.put(CRC32.iso(entries), at: 88)
            header.put(UInt32(0), at: 16)
            header.put(CRC32.iso(header[..<92]), at: 16)
        }
        try file.write(header, at: 512)
        try file.write(entries, at: 1024)
        return file
    }

    func reason(_ file: File) -> DiskFailure.Reason? {
        do {
            _ = try PartitionTable.read(file)
            return nil
        } catch { return (error as? DiskFailure)?.reason }
    }

    @Test func numbersThatNoDiskHasAreErrors() throws {
        let huge = UInt64.max
        #expect(reason(try changed { _, _ in }) == nil)
        // MyLBA, AlternateLBA, the entries' place, the number of entries and their size, the
        // header's own size.
        for offset in [24, 32, 72] {
            for value: UInt64 in [huge, 1 << 63, (1 << 63) - 1, 0] {
                #expect(
                    reason(try changed { header, _ in header.put(value, at: offset) }) == .damagedHeader,
                    "\(offset) \(value)")
            }
        }
        let numbers: [(Int, UInt32)] = [
            (80, .max), (80, 0), (84, .max), (84, 0), (84, 129), (12, .max), (12, 0), (12, 513),
        ]
        for (offset, value) in numbers {
            #expect(reason(try changed { header, _ in header.put(value, at: offset) }) == .damagedHeader, "\(offset)")
        }
        // First and last sector of a partition.
        for offset in [32, 40] {
            for value: UInt64 in [huge, 1 << 63, 1 << 55, 0] {
                #expect(
                    reason(try changed { _, entries in entries.put(value, at: offset) }) == .damagedEntries,
                    "\(offset) \(value)")
            }
        }
        // Two partitions over each other.
        #expect(reason(try changed { _, entries in entries.put(UInt64(3000), at: 128 + 32) }) == .damagedEntries)
    }

    @Test func aDamagedHeaderIsFoundByItsOwnChecksum() throws {
        #expect(reason(try changed({ header, _ in header[57] ^= 1 }, fixing: false)) == .damagedHeader)
        #expect(reason(try changed({ _, entries in entries[57] ^= 1 }, fixing: false)) == .damagedEntries)
        #expect(reason(try changed({ header, _ in header[0] ^= 1 }, fixing: false)) == .noTable)
    }

    /// No bytes of a disk end the process that reads all disks of a machine: the engine does,
    /// before it installs.
    @Test func noTableTrapsItsReader() throws {
        var generator = SystemRandomNumberGenerator()
        var refused = 0
        for _ in 0..<500 {
            let file = try changed { header, entries in
                for _ in 0..<Int.random(in: 1...3, using: &generator) {
                    let any = UInt64.random(in: 0...(.max), using: &generator)
                    let values: [UInt64] = [.max, 1 << 63, (1 << 63) - 1, 1 << 52, 0, 1, any]
                    let value = values.randomElement(using: &generator) ?? 0
                    if Bool.random(using: &generator) {
                        header.put(value, at: Int.random(in: 12..<84, using: &generator))
                    } else {
                        entries.put(value, at: Int.random(in: 0..<600, using: &generator))
                    }
                }
            }
            if reason(file) != nil { refused += 1 }
            _ = try? PartitionTable.readBackup(file, size: try file.size())
        }
        #expect(refused > 100)
    }

    @Test func aTableGoesToALargerDisksEnd() throws {
        for (size, sectorSize) in [(1 << 30, 512), ((1 << 30) + 4096 * 777, 4096), (1 << 30, 4096)] {
            let table = try sample().extended(to: size, sectorSize: sectorSize)
            let disk = try loopDevice("larger-\(size)-\(sectorSize)", size: size, sectorSize: sectorSize)
            let file = try File(disk.device, O_RDWR)
            try table.write(to: file)
            try file.sync()
            let check = try Command("sgdisk", ["--verify", disk.device]).check().text
            #expect(check.contains("No problems found"), "\(check)")
            let data = try #require(table["data"])
            #expect(size - data.offset - data.size < 2 << 20)
        }
    }

    // MARK: - FAT

    /// An EFI system partition as a build makes it, by the host's own tools.
    func makeESP(_ path: String, size: Int) throws {
        try File(path, O_RDWR | O_CREAT | O_TRUNC).resize(to: size)
        try Command("mkfs.vfat", ["--invariant", "-F", "32", "-n", "ESP", "-s", "8", path]).check()
        try FileSystem.replace("\(folder)/large", with: (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 7 >> 3) })
        try FileSystem.replace("\(folder)/small", with: "small\n")
        for name in ["EFI", "EFI/BOOT", "loader", "vcpe"] { try Command("mmd", ["-i", path, "::\(name)"]).check() }
        for (file, name) in [("large", "EFI/BOOT/BOOTX64.EFI"), ("small", "loader/a-long-name.conf")] {
            try Command("mcopy", ["-i", path, "\(folder)/\(file)", "::\(name)"]).check()
        }
    }

    @Test(arguments: [(512, 4096), (4096, 512)]) func aFATWithOtherSectorsIsTheSameFileSystem(from: Int, to: Int) throws
    {
        let source = "\(folder)/esp"
        let size = 400 << 20
        try makeESP(source, size: size)
        if from == 4096 {
            let converted = try FATSectors(File(source), at: 0, sector: 4096, size: size)
            try FileSystem.replace("\(folder)/other", with: try converted.read(converted.end, at: 0))
            try File("\(folder)/other", O_RDWR).resize(to: size)
            try FileSystem.rename("\(folder)/other", to: source)
        }
        let view = try FATSectors(File(source), at: 0, sector: to, size: size)
        let target = "\(folder)/converted"
        try FileSystem.replace(target, with: try view.read(view.end, at: 0))
        try File(target, O_RDWR).resize(to: size)
        let check = try Command("fsck.vfat", ["-n", "-v", target]).run()
        #expect(check.status == 0, "\(check.text)\(check.errorText)")
        #expect(check.text.contains("\(to) bytes per logical sector"), "\(check.text)")
        for (file, name) in [("large", "EFI/BOOT/BOOTX64.EFI"), ("small", "loader/a-long-name.conf")] {
            try Command("mcopy", ["-n", "-i", target, "::\(name)", "\(folder)/read"]).check()
            #expect(try FileSystem.read("\(folder)/read") == FileSystem.read("\(folder)/\(file)"), "\(name)")
            try FileSystem.remove("\(folder)/read")
        }
        // Piece by piece as at once.
        var pieces: [UInt8] = []
        while pieces.count < view.end { pieces += try view.read(min(7777, view.end - pieces.count), at: pieces.count) }
        #expect(try pieces == view.read(view.end, at: 0))
    }

    @Test func aFATWhoseNumbersLieIsRefused() throws {
        let source = "\(folder)/esp"
        try makeESP(source, size: 400 << 20)
        let boot = try File(source).read(512, at: 0)
        // Bytes a sector, sectors a cluster, reserved ones, tables, all sectors, those of a table;
        // the signature.
        let changes: [(Int, [UInt8])] = [
            (11, [0, 0]), (11, [0xFF, 0xFF]), (13, [0]), (13, [3]), (14, [0, 0]), (16, [0]), (16, [255]),
            (32, [0, 0, 0, 0]), (36, [0, 0, 0, 0]), (36, [0xFF, 0xFF, 0xFF, 0xFF]), (510, [0, 0]),
        ]
        for (offset, bytes) in changes {
            var changed = boot
            changed.replaceSubrange(offset..<offset + bytes.count, with: bytes)
            let file = try File(source, O_RDWR)
            try file.write(changed, at: 0)
            let failure = thrown(DiskFailure.self, "\(offset)") { try FATUsage.end(of: file, at: 0) }
            #expect(failure?.reason == .fileSystem)
        }
    }

    // MARK: - Flashing

    /// A built image of two small partitions, with its manifest.
    func image() throws -> BuiltImage {
        let table = PartitionTable(
            guid: GUID(named: "disk"),
            wanted: [
                ("esp", PartitionTable.Kind.efiSystem, GUID(named: "esp"), 400 << 20),
                ("state", PartitionTable.Kind.state, GUID(named: "state"), 1 << 20),
                ("root-a", PartitionTable.Kind.root, GUID(named: "a"), 3 << 20),
                ("root-b", PartitionTable.Kind.root, GUID(named: "b"), 3 << 20),
                ("data", PartitionTable.Kind.linuxData, GUID(named: "data"), 8 << 20),
            ])
        let place = "\(folder)/box/box"
        try FileSystem.makeDirectory("\(folder)/box")
        try makeESP("\(folder)/esp", size: 400 << 20)
        let root = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 13 >> 2) }
        try FileSystem.replace("\(place).root", with: root)
        try FileSystem.replace("\(place).efi", with: "uki")
        let raw = try File("\(place).raw", O_RDWR | O_CREAT | O_TRUNC)
        try raw.resize(to: table.diskSize)
        let esp = try File("\(folder)/esp")
        for extent in try Sparse.extents(of: esp, unit: 4096) {
            try raw.copy(
                from: esp, at: extent.offset, count: extent.count, to: (table["esp"]?.offset ?? 0) + extent.offset)
        }
        try raw.write(root, at: table["root-a"]?.offset ?? 0)
        try table.write(to: raw)
        var outputs: [BuiltOutput: OutputDigest] = [:]
        for output in [BuiltOutput.root, .uki, .raw] {
            outputs[output] = try OutputDigest(of: "\(place).\(output.rawValue)", output.algorithm)
        }
        try FileSystem.replace(
            "\(place).manifest",
            with: Manifest.text(
                image: "box", version: "1", profile: "virtio", rootHash: "00", outputs: outputs, contents: ""))
        return try BuiltImage("box", output: folder)
    }

    @Test(arguments: [512, 4096]) func anImageIsFlashedOntoDisksWithBothSectorSizes(sectorSize: Int) throws {
        let image = try image()
        let size = 2 << 30
        let disk = try loopDevice("stick", size: size, sectorSize: sectorSize)
        // Leftovers of another use.
        try File(disk.device, O_RDWR).write([UInt8](repeating: 0xA5, count: 64 << 20), at: 0)
        var flash = try Flash(image, to: try BlockDevice(disk.device))
        try flash.run(site: Array("lan: {}\n".utf8), signature: [1, 2, 3]) { _, _, _ in }
        let check = try Command("sgdisk", ["--verify", disk.device]).check().text
        #expect(check.contains("No problems found"), "\(check)")
        _ = try Command("partx", ["-u", disk.device]).run()
        let fsck = try Command("fsck.vfat", ["-n", "\(disk.device)p1"]).run()
        #expect(fsck.status == 0, "\(fsck.text)\(fsck.errorText)")
        // Linux mounts no FAT whose sectors are smaller than its disk's.
        #expect(try FATGeometry(File("\(disk.device)p1"), at: 0).sector == sectorSize)
        for (name, expected) in [
            ("EFI/BOOT/BOOTX64.EFI", try FileSystem.read("\(folder)/large")),
            ("vcpe/site.yaml", Array("lan: {}\n".utf8)), ("vcpe/site.yaml.sig", [1, 2, 3]),
        ] {
            try Command("mcopy", ["-n", "-i", "\(disk.device)p1", "::\(name)", "\(folder)/read"]).check()
            #expect(try FileSystem.read("\(folder)/read") == expected, "\(name)")
            try FileSystem.remove("\(folder)/read")
        }
        let table = try PartitionTable.read(try File(disk.device))
        #expect(table.sectorSize == sectorSize && table.diskSize == size)
        let root = try #require(table["root-a"])
        #expect(try File(disk.device).read(200_000, at: root.offset) == FileSystem.read(image.root))
        #expect(try PartitionTable.readBackup(try File(disk.device), size: size) == table)
    }

    @Test func aDamagedImageIsNotFlashed() throws {
        let image = try image()
        #expect(throws: Never.self) { try BuiltImage("box", output: folder) }
        func reason() -> OutputFailure.Reason? {
            do {
                _ = try BuiltImage("box", output: folder)
                return nil
            } catch { return (error as? OutputFailure)?.reason }
        }
        // One byte of the root, within the disk.
        let raw = try File(image.raw, O_RDWR)
        let offset = try #require(try PartitionTable.read(raw)["root-a"]).offset + 100_000
        let byte = try raw.read(1, at: offset)
        try raw.write([byte[0] ^ 1], at: offset)
        if case .digest? = reason() {} else { Issue.record("a changed byte was not found") }
        try raw.write(byte, at: offset)
        #expect(reason() == nil)
        // Cut in the middle of the root; and with a zero more, which a sparse file shows nowhere.
        let size = try raw.size()
        try raw.resize(to: offset)
        #expect(reason() == .size(found: offset, expected: size))
        try raw.resize(to: size + 4096)
        #expect(reason() == .size(found: size + 4096, expected: size))
        for (path, other) in [(image.root, "root"), (image.uki, "uki")] {
            let bytes = try FileSystem.read(path)
            try FileSystem.replace(path, with: bytes + [0])
            #expect(reason() == .size(found: bytes.count + 1, expected: bytes.count), "\(other)")
            try FileSystem.replace(path, with: bytes)
            if other == "root" {
                // The raw is still the wrong one.
                #expect(reason() == .size(found: size + 4096, expected: size))
                try raw.resize(to: size)
            }
        }
        try FileSystem.remove(image.uki)
        #expect(reason() == .missing)
    }

    @Test func aLoopDeviceOfTheImageItselfIsRefused() throws {
        let image = try image()
        let before = try SHA256.hash(FileSystem.read(image.root))
        let device = try Command("losetup", ["--find", "--show", image.raw]).check().text.filter { $0 != "\n" }
        try FileSystem.replace("\(folder)/own.loop", with: device)
        let failure = thrown(DiskFailure.self) { _ = try Flash(image, to: try BlockDevice(device)) }
        #expect(failure?.reason == .unusable)
        #expect(try OutputDigest(of: image.raw, .sparse) == image.manifest.outputs[.raw])
        #expect(try SHA256.hash(FileSystem.read(image.root)) == before)
    }

    @Test func aDiskThatIsTooSmallIsToldItsBytes() throws {
        let image = try image()
        let needed = DiskWriter.needed(for: try PartitionTable.read(try File(image.raw)))
        let disk = try loopDevice("small", size: needed - 4096, sectorSize: 512)
        let obstacle = try BlockDevice(disk.device).obstacle(needed: needed)
        #expect(obstacle?.contains("\(needed - 4096) bytes") == true && obstacle?.contains("\(needed)") == true)
        let failure = thrown(DiskFailure.self) { _ = try Flash(image, to: try BlockDevice(disk.device)) }
        #expect(failure?.hint?.contains("\(needed) bytes") == true)
    }

    @Test func aDiskInUseAndADiskThatWasReplacedComeWithARemedy() throws {
        let image = try image()
        let disk = try loopDevice("disk", size: 1 << 30, sectorSize: 512)
        try Command("mkswap", [disk.device]).check()
        try Command("swapon", [disk.device]).check()
        let used = thrown(DiskFailure.self) { _ = try Flash(image, to: try BlockDevice(disk.device)) }
        try Command("swapoff", [disk.device]).check()
        #expect(used?.hint?.contains("swapoff") == true, "\(String(describing: used))")
        var flash = try Flash(image, to: try BlockDevice(disk.device))
        // Another disk under the same name.
        try Command("losetup", ["--detach", disk.device]).check()
        try Command("losetup", [disk.device, disk.file]).check()
        let replaced = thrown(DiskFailure.self) { try flash.run(site: nil) { _, _, _ in } }
        #expect(replaced?.message.contains("replaced") == true, "\(String(describing: replaced))")
        #expect(replaced?.hint != nil)
    }
}
