import Disks
import Files
import Glibc
import ImageBuilder
import Processes
import Testing

extension BootTests {
    /// An image has sectors of 512 bytes; flashed onto a disk with 4096, it boots by firmware, loader and PID 1, which
    /// extends the data partition to the disk's end.
    @Test func anImageBootsFromADiskWithLargeSectors() async throws {
        let image = try await TestImages.lab()
        let disk = "\(folder)/disk.raw"
        try File(disk, O_RDWR | O_CREAT).resize(to: 4 << 30)
        func loopDevice() throws -> String {
            try Command("losetup", ["--find", "--show", "--sector-size", "4096", disk]).check().text.filter {
                $0 != "\n"
            }
        }
        var device = try loopDevice()
        do {
            defer { _ = try? Command("losetup", ["-d", device]).run() }
            var flash = try Flash(image, to: try BlockDevice(device))
            try flash.run(site: nil) { _, _, _ in }
        }
        // Room that only PID 1 can take.
        try File(disk, O_RDWR).resize(to: 5 << 30)
        var machine = try TestImages.uefi(disk: disk, folder: folder)
        machine.disks[0].sectorSize = 4096
        let started = try Machine.start(machine, in: folder, until: "up", seconds: 180)
        #expect(started.event != nil, "\(started.machine.story)")
        started.machine.kill()
        device = try loopDevice()
        defer { _ = try? Command("losetup", ["-d", device]).run() }
        let check = try Command("sgdisk", ["--verify", device]).check().text
        #expect(check.contains("No problems found"), "\(check)")
        let table = try PartitionTable.read(try File(device))
        #expect(table.sectorSize == 4096)
        let data = try #require(table["data"])
        #expect((5 << 30) - data.offset - data.size < 2 << 20)
    }
}
