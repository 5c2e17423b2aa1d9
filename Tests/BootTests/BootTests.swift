import Disks
import Files
import Glibc
@testable import ImageBuilder
import Processes
import Testing

/// Boots of real images. One machine at a time: two would slow each other down.
@Suite(.serialized) final class BootTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-boot") }

    deinit { try? FileSystem.remove(folder) }

    @Test func firstStartFormatsDataAndLaterStartsKeepIt() async throws {
        let image = try await TestImages.lab()
        let disk = "\(folder)/disk.raw"
        try TestImages.copy(image, to: disk)
        // A larger disk than the image: data must reach its end, and is so large that ext4 uses blocks of 4 KiB.
        let file = try File(disk, O_RDWR)
        try file.resize(to: Int(file.status().st_size) + (600 << 20))
        let first = try Machine.start(
            TestImages.direct(image, disk: disk, folder: folder), in: folder, until: "coldplugged")
        let up = first.machine.event("up")
        try #require(up != nil, "\(first.machine.story)")
        #expect(field("slot", of: up) == "root-a")
        #expect(field("data", of: up) == "mounted")
        #expect(first.machine.console.contains("data is formatted: first start"))
        #expect(first.machine.console.contains("lab-minimal 0.1.0 (virtio), slot root-a, up after"))
        let identity = field("machine-id", of: up)
        #expect(identity?.count == 32)
        // The power button: an orderly shutdown.
        try first.machine.tell("system_powerdown")
        #expect(first.machine.waitForEnd(), "\(first.machine.story)")
        #expect(field("power-off", of: first.machine.event("stopping")) == "yes")

        let table = try PartitionTable.read(file)
        let data = try #require(table["data"])
        let end = Int(try file.status().st_size)
        #expect(data.offset + data.size > end - (2 << 20))
        try Command("sgdisk", ["--verify", disk]).check()
        try Command("sh", ["-c", "dd if=\(disk) bs=1M skip=\(data.offset >> 20) of=\(folder)/data status=none"]).check()
        // A file system that was unmounted: nothing to repair.
        #expect(try Command("e2fsck", ["-fn", "\(folder)/data"]).run().status == 0)
        // One of the superblock's two sectors is wrong, as after a power loss.
        try file.write([1, 2, 3, 4], at: data.offset + 1024 + 1020)

        let second = try Machine.start(TestImages.direct(image, disk: disk, folder: folder), in: folder, until: "up")
        #expect(field("machine-id", of: second.event) == identity, "\(second.machine.story)")
        #expect(!second.machine.console.contains("formatted"))
        #expect(second.machine.console.contains("data was repaired by e2fsck"))
    }

    @Test func dataThatCantBeUsedDoesntStopTheBox() async throws {
        let image = try await TestImages.lab()
        let disk = "\(folder)/disk.raw"
        try TestImages.copy(image, to: disk)
        let file = try File(disk, O_RDWR)
        let data = try #require(PartitionTable.read(file)["data"])
        try file.write(Array("somebody else's".utf8), at: data.offset)
        let start = try Machine.start(TestImages.direct(image, disk: disk, folder: folder), in: folder, until: "up")
        #expect(field("data", of: start.event)?.hasPrefix("in memory: ") == true, "\(start.machine.story)")
        #expect(start.machine.console.contains("the box runs on its factory state"))
        start.machine.kill()
        #expect(try file.read(15, at: data.offset) == Array("somebody else's".utf8))
    }

    @Test func formattingThatWasCutOffIsDoneAgain() async throws {
        let image = try await TestImages.lab()
        let disk = "\(folder)/disk.raw"
        try TestImages.copy(image, to: disk)
        let file = try File(disk, O_RDWR)
        let table = try PartitionTable.read(file)
        let (state, data) = (try #require(table["state"]), try #require(table["data"]))
        try file.write([UInt8](repeating: 0x5A, count: 1 << 20), at: data.offset)
        try file.write(StateRecordBytes.make(sequence: 1, failedStarts: 0, isFormatting: true), at: state.offset + 4096)
        let start = try Machine.start(TestImages.direct(image, disk: disk, folder: folder), in: folder, until: "up")
        #expect(field("data", of: start.event) == "mounted", "\(start.machine.story)")
        #expect(start.machine.console.contains("formatting of data was cut off"))
    }

    @Test func wrongRootHashNeverStartsAndFailedStartsAreCounted() async throws {
        let image = try await TestImages.lab()
        let disk = "\(folder)/disk.raw"
        try TestImages.copy(image, to: disk)
        var machine = try TestImages.direct(image, disk: disk, folder: folder)
        let line = try image.commandLine()
        let wrong = TestImages.withWrongRoot(line)
        for number in 1...3 {
            machine.firmware = .direct(
                kernel: try image.kernel(in: folder), initramfs: image.initramfs, commandLine: wrong + " vcpe.pause=1")
            let start = try Machine.start(machine, in: folder, until: "failed")
            #expect(
                field("reason", of: start.event)?.contains("no slot holds the root") == true, "\(start.machine.story)")
            // The machine restarts, which ends it because of -no-reboot.
            #expect(start.machine.waitForEnd(), "start \(number)")
            #expect(start.machine.event("up") == nil)
        }
        // The fourth boot waits, and reports this on the console, even with the right hash.
        machine.firmware = .direct(
            kernel: try image.kernel(in: folder), initramfs: image.initramfs, commandLine: line)
        let waiting = try Machine.start(machine, in: folder, until: "waiting")
        #expect(field("failed-starts", of: waiting.event) == "3", "\(waiting.machine.story)")
        #expect(field("reason", of: waiting.event)?.contains("no slot holds the root") == true)
        usleep(500_000)
        #expect(waiting.machine.console.contains("Trying again in 10 minutes"))
    }

    @Test func corruptBlockIsNeverRunOn() async throws {
        let image = try await TestImages.lab()
        let disk = "\(folder)/disk.raw"
        try TestImages.copy(image, to: disk)
        let file = try File(disk, O_RDWR)
        let root = try #require(PartitionTable.read(file)["root-a"])
        // PID 1's program: read at every boot, and not by the check of the first blocks.
        let program = try FileSystem.read("\(TestImages.repository)/.build/box/vcpe-init")
        let bytes = try file.read(root.size / 8, at: root.offset)
        let block = stride(from: 0, to: bytes.count, by: 4096).first { bytes[$0..<$0 + 4096] == program[0..<4096] }
        let place = root.offset + (try #require(block)) + 4096 * 20
        let before = try file.read(1, at: place)
        try file.write([before[0] ^ 1], at: place)
        let start = try Machine.start(
            TestImages.direct(image, disk: disk, folder: folder), in: folder, until: "initramfs"
        ).machine
        #expect(start.waitForEnd(seconds: 60), "\(start.story)")
        #expect(start.event("initramfs") != nil)
        #expect(start.event("up") == nil)
    }

    /// A fault that appears only after a boot was marked good must not make the box reboot for ever.
    @Test func goodStartsThatEndWithoutAWordAreCountedToo() async throws {
        let image = try await TestImages.lab()
        let disk = "\(folder)/disk.raw"
        try TestImages.copy(image, to: disk)
        let file = try File(disk, O_RDWR)
        let state = try #require(PartitionTable.read(file)["state"])
        let start = try Machine.start(
            TestImages.direct(image, disk: disk, folder: folder, more: " vcpe.good-after=1"), in: folder, until: "good")
        #expect(field("sound", of: start.event) == "no", "\(start.machine.story)")
        start.machine.kill()
        func newest() throws -> [UInt8] {
            try #require([0, 4096].map { try file.read(4096, at: state.offset + $0) }.max { $0[8] < $1[8] })
        }
        #expect(try newest()[16] == 0 && newest()[22] == 1)

        // An orderly shutdown before the boot was marked good keeps the count of failed boots.
        try file.write(
            StateRecordBytes.make(sequence: 7, failedStarts: 2, isFormatting: false, suddenEnds: 3),
            at: state.offset + 4096)
        let short = try Machine.start(
            TestImages.direct(image, disk: disk, folder: folder), in: folder, until: "coldplugged"
        ).machine
        try short.tell("system_powerdown")
        #expect(short.waitForEnd(), "\(short.story)")
        #expect(try newest()[16] == 2 && newest()[22] == 0, "\(short.story)")

        try file.write(
            StateRecordBytes.make(sequence: 19, failedStarts: 0, isFormatting: false, suddenEnds: 5),
            at: state.offset + 4096)
        let waiting = try Machine.start(
            TestImages.direct(image, disk: disk, folder: folder), in: folder, until: "waiting")
        #expect(field("sudden-ends", of: waiting.event) == "5", "\(waiting.machine.story)")
        #expect(waiting.machine.event("up") == nil)
    }

    @Test func dataIsMadeOnARemovableDiskOnlyWhenToldTo() async throws {
        let image = try await TestImages.server()
        let disk = "\(folder)/disk.raw"
        try TestImages.copy(image, to: disk)
        let file = try File(disk, O_RDWR)
        let state = try #require(PartitionTable.read(file)["state"])
        var machine = try TestImages.direct(image, disk: disk, folder: folder)
        machine.disks[0].bus = .usb
        machine.memory = 1024
        let first = try Machine.start(machine, in: folder, until: "up", seconds: 180)
        #expect(field("data", of: first.event)?.contains("is removable") == true, "\(first.machine.story)")
        first.machine.kill()
        // As `vcpe flash --removable-data` writes it.
        try file.write(
            StateRecordBytes.make(sequence: 99, failedStarts: 0, isFormatting: false, mayFormatRemovable: true),
            at: state.offset)
        let second = try Machine.start(machine, in: folder, until: "up", seconds: 180)
        #expect(field("data", of: second.event) == "mounted", "\(second.machine.story)")
    }

    @Test func debugImageHasAShellOnItsConsoleAndInAnEmergency() async throws {
        let image = try await TestImages.debug()
        let disk = "\(folder)/disk.raw"
        try TestImages.copy(image, to: disk)
        var machine = try TestImages.direct(image, disk: disk, folder: folder)
        let start = try Machine.start(machine, in: folder, until: "coldplugged")
        #expect(start.event != nil, "\(start.machine.story)")
        try start.machine.type("echo $((6*7))-is-the-answer; poweroff\n")
        #expect(start.machine.waitForEnd(), "\(start.machine.story)")
        #expect(start.machine.console.contains("42-is-the-answer"))
        #expect(field("power-off", of: start.machine.event("stopping")) == "yes")

        let line = try image.commandLine()
        machine.firmware = .direct(
            kernel: try image.kernel(in: folder), initramfs: image.initramfs,
            commandLine: TestImages.withWrongRoot(line) + " vcpe.pause=1")
        let broken = try Machine.start(machine, in: folder, until: "failed")
        #expect(broken.event != nil, "\(broken.machine.story)")
        usleep(1_000_000)
        try broken.machine.type("echo $((6*7))-in-an-emergency; exit\n")
        #expect(broken.machine.waitForEnd(), "\(broken.machine.story)")
        #expect(broken.machine.console.contains("42-in-an-emergency"))
    }

    /// A flashed disk boots through the firmware, systemd-boot and the UKI. A disk with the image's own bytes precedes it.
    @Test func flashedDiskStartsByUEFIAndIsNotMistaken() async throws {
        let image = try await TestImages.lab()
        let (disk, twin) = ("\(folder)/disk.raw", "\(folder)/twin.raw")
        try TestImages.copy(image, to: twin)
        let size = Int(try File(twin).status().st_size) + (200 << 20)
        let file = try File(disk, O_RDWR | O_CREAT)
        try file.resize(to: size)
        // Leftovers of an earlier use of the disk.
        try file.write([UInt8](repeating: 0xEE, count: 8 << 20), at: size - (300 << 20))
        try file.write([UInt8](repeating: 0xEE, count: 48 << 20), at: 0)
        let device = try Command("losetup", ["--find", "--show", disk]).check().text.trimmingNewline
        defer { _ = try? Command("losetup", ["--detach", device]).run() }
        var flash = try Flash(image, to: BlockDevice(device), mayFormatRemovable: true)
        try flash.run(site: Array("lan: {}\n".utf8)) { _, _, _ in }
        try Command("sgdisk", ["--verify", device]).check()
        try Command("sh", ["-c", "dd if=\(disk) bs=1M skip=1 count=512 of=\(folder)/esp status=none"]).check()
        try Command("fsck.vfat", ["-n", "\(folder)/esp"]).check()
        let flashed = try PartitionTable.read(file)
        let original = try PartitionTable.read(try File(twin))
        #expect(Set(flashed.partitions.map(\.guid)).isDisjoint(with: original.partitions.map(\.guid)))
        #expect(throws: DiskFailure.self) { try BlockDevice("/dev/null") }
        let state = try #require(flashed["state"])
        let record = StateRecordBytes.make(sequence: 0, failedStarts: 0, isFormatting: false, mayFormatRemovable: true)
        #expect(try file.read(4096, at: state.offset) == record)

        var machine = try TestImages.uefi(disk: twin, folder: folder)
        machine.disks = [.init(path: twin), .init(path: disk)]
        // The kernel finds the twin first; the firmware boots the other.
        machine.extra = ["-boot", "strict=on"]
        machine.bootOrder = [1]
        let start = try Machine.start(machine, in: folder, until: "up", seconds: 120)
        #expect(field("disk", of: start.event) == "/dev/vdb", "\(start.machine.story)")
        #expect(field("data", of: start.event) == "mounted")
    }

    @Test func serverProfileStartsFromNVMeWithIntelEthernet() async throws {
        let image = try await TestImages.server()
        let disk = "\(folder)/disk.raw"
        try TestImages.copy(image, to: disk)
        var machine = try TestImages.uefi(disk: disk, folder: folder)
        machine.disks[0].bus = .nvme
        machine.memory = 1024
        machine.networks = [.init(.user(forwards: [], restricted: true), card: "e1000e")]
        let start = try Machine.start(machine, in: folder, until: "coldplugged", seconds: 180)
        let up = start.machine.event("up")
        #expect(field("disk", of: up) == "/dev/nvme0n1", "\(start.machine.story)")
        #expect(field("network", of: start.event)?.contains("e1000e") == true, "\(start.machine.story)")
        #expect(field("services", of: up) == "engine:running")
        #expect(start.machine.event("service-ended") == nil, "\(start.machine.story)")
    }

    @Test func secureBootStartsWhatIsSignedAndNothingElse() async throws {
        let (signed, certificate) = try await TestImages.signed()
        let unsigned = try await TestImages.lab()
        let disk = "\(folder)/disk.raw"
        try TestImages.copy(signed, to: disk)
        // Words that no signature covers: another disk, another root. They reach the command line, and no reader.
        let zero = String(repeating: "0", count: 64)
        let words = "vcpe.esp=00000000-0000-0000-0000-000000000000 vcpe.verity=1,\(zero),\(zero) init=/bin/sh"
        var machine = try TestImages.uefi(disk: disk, folder: folder, certificate: certificate)
        machine.extra += [
            "-smbios", "type=11,value=io.systemd.stub.kernel-cmdline-extra=\(words.replacing(",", with: ",,"))",
        ]
        let good = try Machine.start(machine, in: folder, until: "coldplugged", seconds: 120)
        let up = good.machine.event("up")
        #expect(field("secure-boot", of: up) == "on", "\(good.machine.story)")
        #expect(field("entry", of: up) == "vcpe-1.efi")
        try good.machine.type("cat /proc/cmdline\n")
        #expect(good.machine.wait(forConsole: "-- vcpe.esp=0000"), "\(good.machine.story)")
        try expectHardening(good.machine)
        try expectNothingWrittenRuns(good.machine)
        good.machine.kill()

        // A tampered UKI: one bit of the kernel, in place.
        let file = try File(disk, O_RDWR)
        let esp = try #require(PartitionTable.read(file)["esp"])
        let kernel = try signed.section(".linux")
        let bytes = try file.read(64 << 20, at: esp.offset)
        let block = stride(from: 0, to: bytes.count - 512, by: 512).first { bytes[$0..<$0 + 512] == kernel[0..<512] }
        let place = esp.offset + (try #require(block)) + 5_000_000
        try file.write([try file.read(1, at: place)[0] ^ 1], at: place)
        try refused(disk, certificate)
        try TestImages.copy(unsigned, to: disk)
        try refused(disk, certificate)
    }

    /// The running kernel has what the image's sysctl file and command line set.
    private func expectHardening(_ machine: Machine) throws {
        let settings = KernelHardening.settings.split(separator: "\n").filter { !$0.hasPrefix("#") }
        let wanted = settings.map { line -> (key: String, value: String) in
            let parts = line.split(separator: "=").map { $0.filter { $0 != " " && $0 != "-" } }
            return (parts[0].replacing(".", with: "/"), parts[1])
        }
        for start in stride(from: 0, to: wanted.count, by: 8) {
            let keys = wanted[start..<min(start + 8, wanted.count)].map(\.key).joined(separator: " ")
            try machine.type(
                "cd /proc/sys; for k in \(keys); do echo $k is $(cat $k 2>/dev/null || echo absent).; done; "
                    + "echo from-$((\(start)))-on\n")
            // The terminal echoes input into the output of a command that runs.
            #expect(machine.wait(forConsole: "from-\(start)-on"), "\(machine.story)")
        }
        try machine.type(
            // Under lockdown the kernel's memory can't be opened.
            "cat </dev/mem >/dev/null; echo signed $(cat /sys/module/module/parameters/sig_enforce) modules.\n")
        #expect(machine.wait(forConsole: "signed Y modules."), "\(machine.story)")
        #expect(machine.console.contains("/dev/mem: Operation not permitted"), "\(machine.story)")
        // Of keys that only newer kernels have.
        let newer = ["kernel/io_uring_disabled", "dev/tty/legacy_tiocsti"]
        for (key, value) in wanted {
            let isAbsent = newer.contains(key) && machine.console.contains("\(key) is absent.")
            #expect(isAbsent || machine.console.contains("\(key) is \(value)."), "\(key)")
        }
    }

    /// An attacker's program does not run from the file systems that every box can write.
    private func expectNothingWrittenRuns(_ machine: Machine) throws {
        // Each word is cut, because the terminal echoes what is typed.
        try machine.type(
            "for f in /run /data /tmp /var /var/tmp /dev/shm; do busybox cp /usr/bin/busybox $f/x && $f/x true && "
                + "echo ra\"\"n-in $f; busybox rm $f/x; done; echo tri\"\"ed-all\n")
        #expect(machine.wait(forConsole: "tried-all"), "\(machine.story)")
        #expect(!machine.console.contains("ran-in"), "\(machine.story)")
        #expect(machine.console.ranges(of: "/x: Permission denied").count == 6, "\(machine.story)")
    }

    private func refused(_ disk: String, _ certificate: String) throws {
        let machine = try Machine(
            TestImages.uefi(disk: disk, folder: folder, certificate: certificate), in: folder)
        // OVMF and systemd-boot have different messages. Neither starts our kernel.
        let end = Clock.seconds + 60
        func saidNo() -> Bool {
            ["Security Violation", "Access Denied", "Bad signature", "Error loading", "Security violation"].contains {
                machine.console.contains($0)
            }
        }
        while Clock.seconds < end, !saidNo() { usleep(100_000) }
        #expect(saidNo(), "\(machine.story)")
        #expect(machine.events.isEmpty, "\(machine.story)")
        machine.kill()
    }
}

extension String {
    var trimmingNewline: String { hasSuffix("\n") ? String(dropLast()) : self }
}

/// PID 1's record, as `docs/boot.md` describes it.
enum StateRecordBytes {
    static func make(
        sequence: UInt64, failedStarts: UInt32, isFormatting: Bool, mayFormatRemovable: Bool = false,
        suddenEnds: UInt16 = 0
    ) -> [UInt8] {
        var bytes = Array("vcpestat".utf8)
        bytes += withUnsafeBytes(of: sequence.littleEndian, Array.init)
        bytes += withUnsafeBytes(of: failedStarts.littleEndian, Array.init)
        bytes.append(isFormatting ? 1 : 0)
        bytes.append(mayFormatRemovable ? 1 : 0)
        bytes += withUnsafeBytes(of: suddenEnds.littleEndian, Array.init)
        bytes += [UInt8](repeating: 0, count: 4092 - bytes.count)
        var crc = UInt32.max
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
        }
        return bytes + withUnsafeBytes(of: (~crc).littleEndian, Array.init)
    }
}
