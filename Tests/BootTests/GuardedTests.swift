import Disks
import Files
import Glibc
import ImageBuilder
import Processes
import Testing

/// A box in the hands of somebody who may not change it: what is plugged in counts for nothing.
extension BootTests {
    @Test func whoHoldsTheBoxChangesNothing() async throws {
        let (image, key) = try await TestImages.guarded()
        let disk = "\(folder)/disk.raw"
        try TestImages.copy(image, to: disk)
        func stick(_ name: String, _ text: String, kind: String, signed: Bool) throws -> String {
            let (path, site) = ("\(folder)/\(name).raw", "\(folder)/\(name)/site.yaml")
            try FileSystem.makeDirectory("\(folder)/\(name)")
            try FileSystem.replace(site, with: text)
            try File(path, O_RDWR | O_CREAT).resize(to: 64 << 20)
            if kind == "ext4" {
                try Command("mkfs.ext4", ["-q", "-L", "vcpe-site", "-d", "\(folder)/\(name)", path]).check()
                return path
            }
            try Command("mkfs.vfat", ["-F", kind, "-n", "VCPE-SITE", path]).check()
            try Command("mcopy", ["-i", path, site, "::site.yaml"]).check()
            if signed {
                try Command("ssh-keygen", ["-q", "-Y", "sign", "-f", key, "-n", "vcpe-site", site]).check()
                try Command("mcopy", ["-i", path, "\(site).sig", "::site.yaml.sig"]).check()
            }
            return path
        }
        let text = String(
            decoding: try FileSystem.read("\(TestImages.repository)/images/branch-office.site.yaml"), as: UTF8.self)
        var machine = try TestImages.direct(image, disk: disk, folder: folder)
        machine.disks[0].bus = .sata
        machine.memory = 1024
        // Each is the first thing that this box is told, and it has no document yet.
        machine.disks.append(
            .init(path: try stick("unsigned", text + "# unsigned\n", kind: "16", signed: false), bus: .usb))
        machine.disks.append(
            .init(path: try stick("kernel", text + "# ext4\n", kind: "ext4", signed: false), bus: .usb))
        machine.extra += ["-device", "usb-kbd,bus=usb.0"]
        let box = try Machine(machine, in: folder)
        #expect(box.wait(forConsole: "takes no document without a signature", seconds: 120), "\(box.story)")
        #expect(box.wait(forConsole: "is not read: its file system must be FAT"), "\(box.story)")
        #expect(box.wait(forConsole: "not admitted, class 0x3"), "\(box.story)")
        #expect(box.wait(forConsole: "kernel modules are closed"), "\(box.story)")
        try box.tell("system_powerdown")
        #expect(box.waitForEnd(), "\(box.story)")
        let data = try #require(PartitionTable.read(try File(disk))["data"])
        let none = try Command("debugfs", ["-R", "ls -p /vcpe/commits", "\(disk)?offset=\(data.offset)"]).run()
        #expect(!none.text.contains("/1/"), "\(none)")

        machine.disks.removeLast(2)
        machine.disks.append(.init(path: try stick("signed", text + "# signed\n", kind: "32", signed: true), bus: .usb))
        let again = try Machine(machine, in: folder)
        #expect(
            again.wait(forConsole: "the document of the stick waits for absent ports", seconds: 120), "\(again.story)")
        try again.tell("system_powerdown")
        #expect(again.waitForEnd(), "\(again.story)")
    }
}
