import Disks
import Documents
import Files
import Glibc
import ImageBuilder
import Processes
import Testing

/// A repository that a machine reaches as http://10.0.2.100, and the machine on its disk between starts.
final class UpgradeBench {
    private static let folder = "\(TestImages.output)/upgrade"
    private static let program = "\(TestImages.repository)/.build/debug/vcpe"
    private static let name = "branch-upgrade"

    let folder: String
    let disk: String
    /// Its releases, by their versions.
    private(set) var images: [String: BuiltImage] = [:]
    private var machine: VirtualMachine
    /// Without a record of its writes.
    private let usual: VirtualMachine

    /// Makes a repository of releases, the first of which is on the disk.
    ///
    /// - Parameters:
    ///   - releases: versions, with what their definitions have beyond the first one's.
    ///   - floor: the release before which nothing may be installed any more.
    init(in folder: String, releases: [(version: String, more: String)], floor: String? = nil) async throws {
        self.folder = folder
        disk = "\(folder)/disk.raw"
        let updates = "\(folder)/updates"
        try Self.vcpe(["release", "init", updates, "--lab"])
        for (version, more) in releases {
            let image = try await Self.build(version, more, root: "\(updates)/metadata/1.root.json")
            images[version] = image
            if version == releases[0].version { try TestImages.copy(image, to: disk) }
            try TestImages.writeProofs(of: image)
            try Self.vcpe(
                [
                    "release", "add", Self.name, "--profile", "virtio", "--output", "\(Self.folder)/\(version)", "--to",
                    updates, "--yes", "--compression", "1",
                ] + (version == floor ? ["--floor"] : []))
        }
        machine = try TestImages.uefi(disk: disk, folder: folder)
        machine.memory = 768
        // Everything stays on this machine: what is behind the address is a program, a process for each connection.
        machine.extra = [
            "-device", "i6300esb", "-netdev",
            "user,id=wan,restrict=on,guestfwd=tcp:10.0.2.100:80-cmd:busybox httpd -i -h \(updates)",
            "-device", "virtio-net-pci,netdev=wan,addr=0x10", "-netdev", "user,id=lan,restrict=on",
            "-device", "virtio-net-pci,netdev=lan,addr=0x11", "-smbios",
            "type=11,value=io.systemd.stub.kernel-cmdline-extra=vcpe.good-after=3 vcpe.pause=1 vcpe.trial=150",
        ]
        usual = machine
    }

    private static func vcpe(_ words: [String]) throws {
        try Command(program, words, environment: ["VCPE_PASSPHRASE": "of a test", "HOME": "/root"]).check()
    }

    /// branch-office with a shell on its console and the provider's root.
    private static func build(_ version: String, _ more: String, root: String) async throws -> BuiltImage {
        let images = "\(folder)/images"
        try FileSystem.makeDirectory(images)
        try TestImages.copyBranch(to: images)
        try Command("cp", [root, "\(images)/root.json"]).check()
        let site = String(decoding: try FileSystem.read("\(images)/branch-office.site.yaml"), as: UTF8.self)
        try FileSystem.replace(
            "\(images)/upgrade.site.yaml",
            with: site
                + "\nupgrade:\n  repository: http://10.0.2.100\n  mirrors: [\"file:///run/vcpe/upgrade/stick\"]\n"
                + "  health-time: 3\n")
        try FileSystem.replace(
            "\(images)/\(name).yaml",
            with: """
                name: \(name)
                extends: branch-office
                version: "\(version)"
                debug: true
                plugins: [upgrade]
                site: upgrade.site.yaml
                budgets: {virtio: {raw.zst: 90 MB}}
                files:
                  /usr/lib/x86_64-linux-gnu/libssl.so.3: {absent: false}
                  /usr/lib/vcpe/trust/root.json: {source: root.json}
                \(more)

                """)
        return try await TestImages.build(
            name, images: images, profile: "virtio", update: true, source: "branch-office", to: "\(folder)/\(version)")
    }

    /// Starts the box, and waits until a shell answers and the engine is ready.
    ///
    /// - Parameter clock: what the machine's own says, as ISO 8601 has it; nil for the right time.
    func start(clock: String? = nil, seconds: Double = 120) throws -> Machine {
        var machine = machine
        if let clock { machine.extra += ["-rtc", "base=\(clock)"] }
        let box = try Machine(machine, in: folder)
        #expect(box.wait(for: "service-ready", seconds: seconds) != nil, "\(box.story)")
        try box.type("exec busybox sh\n")
        return box
    }

    /// Starts the box and waits until its console says something.
    func startUntil(_ text: String) throws -> Machine {
        let box = try Machine(machine, in: folder)
        #expect(box.wait(forConsole: text), "\(box.story)")
        return box
    }

    /// Starts the box and leaves it to itself until it has ended, as it does when it restarts.
    func startUntilItEnds(seconds: Double = 100) throws -> Machine {
        let box = try Machine(machine, in: folder)
        // An image with a shell on its console offers one then; its own pause is as short.
        if box.wait(for: "failed", seconds: seconds) != nil {
            #expect(box.wait(forConsole: "/ # "), "\(box.story)")
            try box.type("exit\n")
        }
        #expect(box.waitForEnd(seconds: seconds), "\(box.story)")
        return box
    }

    /// What a program on the box says, waited for as its operator would: again and again, until it says what is wanted.
    func ask(_ box: Machine, _ command: String, until wanted: String, seconds: Double = 90) throws -> Bool {
        let end = Clock.seconds + seconds
        while Clock.seconds < end {
            let before = box.console.utf8.count
            try box.type("\(command); echo $((40+2))-asked\n")
            let limit = Clock.seconds + 60
            var said = ""
            repeat {
                usleep(100_000)
                said = String(decoding: box.console.utf8.dropFirst(before), as: UTF8.self)
            } while !said.contains("42-asked") && Clock.seconds < limit
            if said.contains(wanted) { return true }
            usleep(1_000_000)
        }
        return false
    }

    /// Of a release whose first program ends at once.
    static let panics = "  /usr/sbin/init: {content: \"#!/bin/sh\\nexit 1\\n\", mode: \"0755\"}"

    func install(_ version: String, into slot: String, on box: Machine) throws {
        let isThere = try ask(
            box, "vcpectl upgrade install --to \(version)", until: "\(version) is installed into \(slot)")
        #expect(isThere, "\(box.story)")
        try box.type("reboot\n")
        #expect(box.waitForEnd(), "\(box.story)")
    }

    /// Changes the document, by which one can tell later whose it is.
    func commit(_ domain: String, on box: Machine) throws {
        try box.type(
            "vcpectl show >/tmp/a; sed 's/domain: .*/domain: \(domain)/' /tmp/a >/tmp/b; vcpectl apply /tmp/b\n")
        #expect(try ask(box, "vcpectl show lan.domain", until: domain), "\(box.story)")
    }

    /// The names of the boot entries, by mtools.
    func entries() throws -> [String] {
        let esp = try #require(PartitionTable.read(try File(disk))["esp"])
        let text = try Command("mdir", ["-b", "-i", "\(disk)@@\(esp.offset)", "::EFI/Linux"]).check().text
        return text.split(separator: "\n").map { $0.dropFirst("::/EFI/Linux/".count).lowercased() }.sorted()
    }

    /// Has QEMU write down from now on what is written to the disk, each start into a file of its own; nil ends it.
    func record(to log: String?) throws {
        machine = usual
        guard let log else { return }
        try FileSystem.replace(log, with: "")
        machine.disks = []
        machine.extra += [
            "-blockdev", "driver=file,node-name=disk,filename=\(disk)", "-blockdev",
            "driver=file,node-name=log,filename=\(log)", "-blockdev",
            "driver=blklogwrites,node-name=recorded,file=disk,log=log,log-sector-size=512", "-device",
            "virtio-blk-pci,drive=recorded,bootindex=0",
        ]
    }

    /// Takes the line away and plugs in a stick with the repository instead.
    func useStick() throws {
        let stick = "\(folder)/stick.raw"
        try File(stick, O_RDWR | O_CREAT).resize(to: 400 << 20)
        try Command("mkfs.vfat", ["-F", "32", "-n", "VCPE-UPDATE", stick]).check()
        for name in ["metadata", "targets"] {
            try Command("mcopy", ["-s", "-i", stick, "\(folder)/updates/\(name)", "::"]).check()
        }
        machine.extra = machine.extra.map { $0.hasPrefix("user,id=wan") ? "user,id=wan,restrict=on" : $0 }
        machine.disks.append(.init(path: stick))
    }

    /// Gives a boot entry a second name, by mtools.
    func copyEntry(_ name: String, as other: String) throws {
        let esp = try #require(PartitionTable.read(try File(disk))["esp"])
        let (place, copy) = ("\(disk)@@\(esp.offset)", "\(folder)/entry")
        try Command("mcopy", ["-n", "-o", "-i", place, "::EFI/Linux/\(name)", copy]).check()
        try Command("mcopy", ["-i", place, copy, "::EFI/Linux/\(other)"]).check()
    }

    /// The boot loader that the firmware starts by itself, by mtools; or another one in its place.
    func loader(changed change: ((inout [UInt8]) -> Void)? = nil) throws -> [UInt8] {
        let esp = try #require(PartitionTable.read(try File(disk))["esp"])
        let (place, copy, name) = ("\(disk)@@\(esp.offset)", "\(folder)/loader", "::EFI/BOOT/BOOTX64.EFI")
        try Command("mcopy", ["-n", "-o", "-i", place, name, copy]).check()
        var bytes = try FileSystem.read(copy)
        guard let change else { return bytes }
        change(&bytes)
        try FileSystem.replace(copy, with: bytes)
        try Command("mcopy", ["-o", "-i", place, copy, name]).check()
        return bytes
    }

    /// Changes a byte at the start of a slot: what is looked at before it is mounted.
    ///
    /// - Parameter late: or rather far behind that.
    func spoil(_ slot: String, late: Bool = false) throws {
        let file = try File(disk, O_RDWR)
        let root = try #require(PartitionTable.read(file)[slot])
        let size = try images.values.map { try FileSystem.read($0.root).count }.min() ?? 0
        let place = root.offset + (late ? size / 10 * 9 : 1030)
        try file.write([try file.read(1, at: place)[0] ^ 1], at: place)
    }
}
