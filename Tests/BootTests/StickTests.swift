import Disks
import Documents
import Files
import Glibc
import ImageBuilder
import Processes
import Testing

extension BootTests {
    /// A stick offers itself to whoever stands at the console; power fails in the middle. Then the document on it says where to, and nobody touches the box but to
    /// pull the stick.
    @Test func aStickInstallsItselfOntoADisk() async throws {
        let image = try await TestImages.server()
        let (stick, disk) = ("\(folder)/stick.raw", "\(folder)/disk.raw")
        try TestImages.copy(image, to: stick)
        let whole = try File(disk, O_RDWR | O_CREAT)
        try whole.resize(to: Int(try File(stick).status().st_size) + (256 << 20))
        // As a stick is that was flashed: its table goes to its end, which is farther than the disk's.
        let original = try PartitionTable.read(try File(stick))
        var table = original
        table.diskSize += 4 << 30
        table.partitions[table.partitions.count - 1].size += 4 << 30
        try File(stick, O_RDWR).resize(to: table.diskSize)
        try table.write(to: try File(stick, O_RDWR))
        var machine = try TestImages.uefi(disk: stick, folder: folder)
        machine.memory = 1024
        machine.disks = [.init(path: stick, bus: .usb), .init(path: disk, bus: .sata)]
        machine.bootOrder = [0]

        var box = try Machine(machine, in: folder)
        #expect(box.wait(for: "up", seconds: 180) != nil, "\(box.story)")
        #expect(field("data", of: box.event("up"))?.hasPrefix("in memory") == true)
        #expect(box.wait(forConsole: "installs itself when you type", seconds: 90), "\(box.story)")
        #expect(box.console.contains("/dev/sda: ATA QEMU HARDDISK, serial QM000"), "\(box.story)")
        try box.type("sdz\n")
        #expect(box.wait(forConsole: "no disk is called \"sdz\""), "\(box.story)")
        try box.type("sda\n")
        #expect(box.wait(forConsole: "Type sda once more"), "\(box.story)")
        try box.type("sda\n")
        #expect(box.wait(forConsole: "/dev/sda: writing, 30 %", seconds: 180), "\(box.story)")
        box.kill()
        // What is not finished is nobody's disk.
        #expect(try whole.read(1 << 20, at: 0).allSatisfy { $0 == 0 })
        #expect(throws: DiskFailure.self) { try PartitionTable.read(whole) }

        let esp = try #require(original["esp"])
        let site = "\(folder)/site.yaml"
        let text = String(
            decoding: try FileSystem.read("\(TestImages.repository)/images/branch-office.site.yaml"), as: UTF8.self)
        try FileSystem.replace(site, with: text + "\nsystem:\n  install-to: blank\n")
        try Command("mcopy", ["-o", "-i", "\(stick)@@\(esp.offset)", site, "::vcpe/site.yaml"]).check()
        box = try Machine(machine, in: folder)
        #expect(box.wait(forConsole: "Pull the stick out", seconds: 400), "\(box.story)")
        // It goes on without the stick until it has restarted.
        try box.tell("device_del stick0")
        #expect(box.waitForEnd(seconds: 90), "\(box.story)")

        let installed = try PartitionTable.read(whole)
        #expect(installed.partitions.map(\.name) == original.partitions.map(\.name))
        #expect(Set(installed.partitions.map(\.guid)).isDisjoint(with: original.partitions.map(\.guid)))
        try Command("sgdisk", ["--verify", disk]).check()
        machine.disks = [.init(path: disk, bus: .sata)]
        machine.bootOrder = []
        box = try Machine(machine, in: folder)
        #expect(box.wait(for: "service-ready", seconds: 180) != nil, "\(box.story)")
        #expect(field("disk", of: box.event("up")) == "/dev/sda" && field("data", of: box.event("up")) == "mounted")
        // The key counts on a stick only.
        #expect(!box.console.contains("the box is installed"), "\(box.story)")
        try box.tell("system_powerdown")
        #expect(box.waitForEnd(), "\(box.story)")
        let data = try #require(PartitionTable.read(whole)["data"])
        #expect(data.size > (original["data"]?.size ?? .max))
        let head = try Command("debugfs", ["-R", "cat /vcpe/commits/1", "\(disk)?offset=\(data.offset)"]).check().text
        #expect(head.contains("install-to: blank"), "\(head.prefix(300))")

        // The stick once more: it knows that there is nothing to do; and where the box has another release by now, that nobody wants it overwritten unasked.
        machine.disks = [.init(path: stick, bus: .usb), .init(path: disk, bus: .sata)]
        machine.bootOrder = [0]
        let root = try #require(PartitionTable.read(whole)["root-a"])
        for words in ["this release is on it already", "a box runs from it, and somebody must want it"] {
            box = try Machine(machine, in: folder)
            #expect(box.wait(forConsole: words, seconds: 240), "\(box.story)")
            #expect(!box.console.contains("writing"), "\(box.story)")
            box.kill()
            try FileSystem.replace(site, with: text + "\nsystem:\n  install-to: QM00011\n")
            try Command("mcopy", ["-o", "-i", "\(stick)@@\(esp.offset)", site, "::vcpe/site.yaml"]).check()
            let superblock = try #require(
                stride(from: 0, to: root.size, by: 4096).first {
                    (try? whole.read(8, at: root.offset + $0)) == Array("verity\0\0".utf8)
                })
            try whole.write([0xFF], at: root.offset + superblock + 88)
        }
    }
}
