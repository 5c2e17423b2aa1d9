import Files
import Glibc
import Processes
import Slots
import TestSupport
import Testing

@Suite struct BootPartitionTests {
    @Test func entriesAreReadFromTheirNamesAndOrdered() {
        let names = [
            "vcpe-1.efi", "vcpe-2+3.efi", "vcpe-2+2-1.efi", "vcpe-12+0-3.efi", "vcpe-.efi", "vcpe-1", "vcpe-1+.efi",
            "vcpe-1+1-.efi", "vcpe-1+1-1-1.efi", "vcpe--1.efi", "other.efi", "vcpe-9999999999.efi", "VCPE-3.EFI",
        ]
        let entries = names.map { BootEntry($0) }
        #expect(
            entries.map { $0?.fileName } == [
                "vcpe-1.efi", "vcpe-2+3.efi", "vcpe-2+2-1.efi", "vcpe-12+0-3.efi", nil, nil, nil, nil, nil, nil, nil,
                nil,
                "vcpe-3.efi",
            ])
        #expect(entries[3]?.isBad == true && entries[1]?.isBad == false && entries[0]?.isGood == true)
    }

    /// As the builder makes it.
    private static func make(_ path: String, files: [(String, [UInt8])]) throws {
        try File(path, O_RDWR | O_CREAT | O_TRUNC).resize(to: 40 << 20)
        try Command("mkfs.vfat", ["--invariant", "-F", "32", "-n", "ESP", "-s", "1", path]).check()
        try Command("mmd", ["-i", path, "::EFI", "::EFI/Linux", "::EFI/BOOT", "::loader", "::loader/entries"]).check()
        for (name, bytes) in files {
            try FileSystem.replace(path + ".file", with: bytes)
            try Command("mcopy", ["-i", path, path + ".file", "::\(name)"]).check()
        }
    }

    private static func image(_ number: Int, size: Int = 50_000) -> [UInt8] {
        (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ number &* 101 &+ $0 >> 8) }
    }

    private static let reset = Array("title factory reset\nefi /EFI/Linux/vcpe-1.efi\noptions @1\n".utf8)

    private static func start(_ folder: String) throws -> String {
        let path = "\(folder)/esp"
        try make(
            path,
            files: [
                ("EFI/BOOT/BOOTX64.EFI", image(99)), ("EFI/Linux/vcpe-1.efi", image(1)),
                ("loader/entries/factory-reset.conf", reset),
            ])
        return path
    }

    private static func add(_ number: Int, to partition: inout BootPartition) throws {
        let bytes = image(number)
        let room = try partition.room(for: bytes.count)
        try room.write(bytes, at: 0)
        _ = try partition.add(number, from: room)
    }

    /// By fsck.vfat and mtools, which know nothing of us.
    private static func check(_ path: String, holds files: [String: Int]) throws {
        let result = try Command("fsck.vfat", ["-n", path]).run()
        #expect(result.status == 0, "\(result.text)")
        let listed = try Command("mdir", ["-b", "-i", path, "::EFI/Linux"]).check().text
        // mtools gives names without small letters as large ones.
        let names = listed.split(separator: "\n").map { $0.dropFirst("::/EFI/Linux/".count).lowercased() }
        #expect(Set(names) == Set(files.keys))
        for (name, number) in files {
            try Command("mcopy", ["-n", "-i", path, "::EFI/Linux/\(name)", path + ".out"]).check()
            #expect(try FileSystem.read(path + ".out") == image(number), "\(name)")
            try FileSystem.remove(path + ".out")
        }
    }

    @Test func releasesComeAreTriedAndGo() throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-slots")
        defer { try? FileSystem.remove(folder) }
        let path = try Self.start(folder)
        var partition = try BootPartition(File(path, O_RDWR))
        #expect(partition.entries.map(\.fileName) == ["vcpe-1.efi"])
        try Self.add(2, to: &partition)
        try Self.check(path, holds: ["vcpe-1.efi": 1, "vcpe-2+3.efi": 2])

        // The loader lowers the counter.
        try Command("mren", ["-i", path, "::EFI/Linux/vcpe-2+3.efi", "vcpe-2+2-1.efi"]).check()
        partition = try BootPartition(File(path, O_RDWR))
        try partition.bless(2)
        try Self.check(path, holds: ["vcpe-1.efi": 1, "vcpe-2.efi": 2])
        #expect(
            try Command("mtype", ["-i", path, "::loader/entries/factory-reset.conf"]).check().text
                == "title factory reset\nefi /EFI/Linux/vcpe-2.efi\noptions @1\n")

        try partition.keepOnly(2)
        try Self.add(partition.nextNumber, to: &partition)
        try partition.condemn(3)
        try Self.check(path, holds: ["vcpe-2.efi": 2, "vcpe-3+0-1.efi": 3])
        #expect(throws: SlotFailure.self) { try partition.keepOnly(7) }
        #expect(throws: SlotFailure.self) { try Self.add(3, to: &partition) }
        #expect(throws: SlotFailure.self) { _ = try partition.room(for: 64 << 20) }
        try Self.check(path, holds: ["vcpe-2.efi": 2, "vcpe-3+0-1.efi": 3])
    }

    /// Wherever power fails, and whatever is given up, the way back to the factory's document leads to a good release.
    @Test func theFactoryResetNamesAGoodRelease() throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-slots")
        defer { try? FileSystem.remove(folder) }
        let path = try Self.start(folder)
        func named() throws -> String? {
            try Command("mtype", ["-i", path, "::loader/entries/factory-reset.conf"]).check().text.split(
                separator: "\n"
            )
            .first { $0.hasPrefix("efi ") }.map(String.init)
        }
        var partition = try BootPartition(File(path, O_RDWR))
        try Self.add(2, to: &partition)
        // Power fails between the name and the line that names it.
        try Command("mren", ["-i", path, "::EFI/Linux/vcpe-2+3.efi", "vcpe-2.efi"]).check()
        partition = try BootPartition(File(path, O_RDWR))
        try partition.condemn(2)
        #expect(try named() == "efi /EFI/Linux/vcpe-1.efi")
        try partition.keepOnly(1)
        try Self.add(2, to: &partition)
        try Command("mren", ["-i", path, "::EFI/Linux/vcpe-2+3.efi", "vcpe-2.efi"]).check()
        partition = try BootPartition(File(path, O_RDWR))
        try partition.keepOnly(2)
        #expect(try named() == "efi /EFI/Linux/vcpe-2.efi")
        // One that was good is given up, and the one before it runs.
        try Self.add(3, to: &partition)
        try partition.bless(3)
        try partition.condemn(3)
        #expect(try named() == "efi /EFI/Linux/vcpe-2.efi")
        // What others left behind is put right with the next change.
        try Command("mdel", ["-i", path, "::EFI/Linux/vcpe-2.efi"]).check()
        partition = try BootPartition(File(path, O_RDWR))
        try Self.add(4, to: &partition)
        try partition.bless(4)
        #expect(try named() == "efi /EFI/Linux/vcpe-4.efi")
    }

    /// Many names come and go in one folder: its end moves from sector to sector, and new clusters are taken.
    @Test func foldersGrow() throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-slots")
        defer { try? FileSystem.remove(folder) }
        let path = try Self.start(folder)
        var volume = try FATVolume(File(path, O_RDWR))
        let free = volume.free
        for i in 0..<60 {
            try volume.write(
                Self.image(i, size: 1 + i * 40), to: "EFI/Linux/\(String(repeating: "n", count: i))-\(i).conf")
        }
        #expect(try Command("fsck.vfat", ["-n", path]).run().status == 0)
        for i in 0..<60 {
            let name = "EFI/Linux/\(String(repeating: "n", count: i))-\(i).conf"
            #expect(try Command("mtype", ["-i", path, "::\(name)"]).check().output == Self.image(i, size: 1 + i * 40))
            try volume.remove(name)
        }
        #expect(free - volume.free <= 24 * 512, "what the folder has grown by")
        try Self.check(path, holds: ["vcpe-1.efi": 1])
    }

    /// A loader's rename that power failed upon leaves one image under two names: taking one away must not take the other's contents.
    @Test func oneImageUnderTwoNamesIsMadeOne() throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-slots")
        defer { try? FileSystem.remove(folder) }
        for (first, second, kept) in [
            ("vcpe-2+3.efi", "vcpe-2+2-1.efi", "vcpe-2+2-1.efi"), ("vcpe-2+2-1.efi", "vcpe-2.efi", "vcpe-2.efi"),
        ] {
            let path = try Self.start(folder)
            try FileSystem.replace(path + ".file", with: Self.image(2))
            try Command("mcopy", ["-i", path, path + ".file", "::EFI/Linux/\(first)"]).check()
            try FileSystem.replace(path, with: Self.twice(try FileSystem.read(path), first, second))
            #expect(try BootPartition(File(path)).entries.count == 3)
            var partition = try BootPartition(File(path, O_RDWR))
            try partition.repair()
            try Self.check(path, holds: ["vcpe-1.efi": 1, kept: 2])
            try partition.keepOnly(1)
            try Self.check(path, holds: ["vcpe-1.efi": 1])
        }
    }

    /// Gives the file `name` the second name `other`, on the same clusters.
    private static func twice(_ bytes: [UInt8], _ name: String, _ other: String) throws -> [UInt8] {
        let disk = RecordedDisk(bytes)
        var volume = try FATVolume(disk)
        let room = try volume.room(for: 1)
        try volume.publish(room, as: "EFI/Linux/\(other)")
        // The new record's cluster and size become the old one's.
        let (first, second) = (
            try #require(try volume.find("EFI/Linux/\(name)")), try #require(try volume.find("EFI/Linux/\(other)"))
        )
        var all = disk.read(bytes.count, at: 0)
        let sought: [UInt8] = [
            UInt8(truncatingIfNeeded: second.firstCluster), UInt8(truncatingIfNeeded: second.firstCluster >> 8), 1, 0,
            0, 0,
        ]
        let place = try #require(
            stride(from: 0, to: all.count - 32, by: 32).first {
                all[$0] == UInt8(ascii: "V") && Array(all[$0 + 26..<$0 + 32]) == sought
            })
        let size = first.size
        all.replaceSubrange(
            place + 26..<place + 32,
            with: [
                UInt8(truncatingIfNeeded: first.firstCluster), UInt8(truncatingIfNeeded: first.firstCluster >> 8),
                UInt8(truncatingIfNeeded: size), UInt8(truncatingIfNeeded: size >> 8),
                UInt8(truncatingIfNeeded: size >> 16), 0,
            ])
        return all
    }

    /// The firmware finds a loader, whole, wherever power fails in its change, and whatever is tried.
    @Test func aLoaderIsTheOldOrTheNewOne() throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-slots")
        defer { try? FileSystem.remove(folder) }
        let path = try Self.start(folder)
        try Command("mmd", ["-i", path, "::EFI/systemd"]).check()
        try FileSystem.replace(path + ".file", with: Self.image(99))
        try Command("mcopy", ["-i", path, path + ".file", "::EFI/systemd/systemd-bootx64.efi"]).check()
        let before = try FileSystem.read(path)
        let disk = RecordedDisk(before)
        var partition = try BootPartition(disk)
        try partition.setSpareLoader(Self.image(7, size: 70_000))
        #expect(try partition.loader() == Self.image(99) && partition.spareLoader() == Self.image(7, size: 70_000))
        try partition.adoptSpareLoader()
        try partition.setSpareLoader(Self.image(5, size: 100))
        let (old, new) = (Self.image(99), Self.image(7, size: 70_000))
        #expect(try partition.loader() == new && partition.spareLoader() == Self.image(5, size: 100))
        var (random, seen) = (Random(seed: Torture.seed), (old: 0, new: 0))
        try RecordedDisk.cuts(disk.events, every: 12, shuffled: 8, random: &random) { state in
            var found = try BootPartition(state.over(before))
            for pass in ["as it is", "repaired"] {
                let loader = try found.loader()
                #expect(loader == old || loader == new, "\(pass)")
                if loader == old { seen.old += 1 } else { seen.new += 1 }
                if pass == "as it is" { try found.repair() }
            }
        }
        #expect(seen.old > 20 && seen.new > 20, "\(seen)")
        // By mtools, which know nothing of us.
        try FileSystem.replace(path, with: disk.read(before.count, at: 0))
        try Command("mcopy", ["-n", "-i", path, "::EFI/BOOT/BOOTX64.EFI", path + ".out"]).check()
        #expect(try FileSystem.read(path + ".out") == new)
        let result = try Command("fsck.vfat", ["-n", path]).run()
        #expect(result.status == 0, "\(result.text)")
    }

    /// Power fails at any write of an upgrade's changes here, or some writes come without others: the release that runs is always there, whole; a name on trial
    /// has all of its image; and the next repair leaves a sound file system.
    @Test func powerCutsLeaveOldOrNew() throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-slots")
        defer { try? FileSystem.remove(folder) }
        let path = try Self.start(folder)
        let before = try FileSystem.read(path)
        let disk = RecordedDisk(before)
        var partition = try BootPartition(disk)
        try partition.keepOnly(1)
        try Self.add(2, to: &partition)
        try partition.bless(2)
        try partition.keepOnly(2)
        try Self.add(3, to: &partition)
        try partition.condemn(3)
        try partition.keepOnly(2)
        let images = (0..<4).map { Self.image($0) }
        var random = Random(seed: Torture.seed)
        var (checked, examined) = (0, 0)
        try RecordedDisk.cuts(disk.events, every: 6, shuffled: 30, random: &random) { state in
            checked += 1
            let cut = state.over(before)
            var found = try BootPartition(cut)
            for pass in ["as it is", "repaired"] {
                let good = found.entries.filter(\.isGood)
                #expect(!good.isEmpty, "state \(checked) \(pass): \(found.entries.map(\.fileName))")
                for entry in found.entries {
                    #expect(
                        try found.image(of: entry).read(1 << 20, at: 0) == images[entry.number],
                        "state \(checked) \(pass): \(entry)")
                }
                if pass == "as it is" { try found.repair() }
            }
            let text = String(decoding: try FATVolume(cut).read("loader/entries/factory-reset.conf"), as: UTF8.self)
            let named = found.entries.filter { text.contains("/\($0.fileName)\n") }
            // Between the blessing and its entry it names what was good before.
            #expect(named.count == 1, "state \(checked): \(text)")
            if checked % 30 == 0 {
                examined += 1
                let held = "\(folder)/cut"
                try FileSystem.replace(held, with: cut.read(before.count, at: 0))
                let result = try Command("fsck.vfat", ["-n", held]).run()
                #expect(result.status == 0, "state \(checked): \(result.text)")
            }
        }
        print("\(checked) cuts of power, \(examined) examined by fsck.vfat")
        #expect(checked > 200)
    }
}
