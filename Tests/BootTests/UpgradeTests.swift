import Disks
import Digests
import Documents
import Files
import Glibc
import ImageBuilder
import Processes
import TestSupport
import Testing

/// A repository that a machine reaches as http://10.0.2.100, and the machine on its disk between starts.
final class UpgradeBench {
    private static let folder = "\(TestImages.output)/upgrade"
    private static let program = "\(TestImages.repository)/.build/debug/vcpe"
    private static let name = "branch-upgrade"

    let folder: String
    let disk: String
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
            if version == releases[0].version { try TestImages.copy(image, to: disk) }
            let stem = "\(image.folder)/\(image.stem)"
            let proofs: JSON = [
                "manifest": .text(SHA256.hash(try FileSystem.read("\(stem).manifest")).hex), "passed": true,
            ]
            try FileSystem.replace("\(stem).proofs.json", with: proofs.pretty)
            try Self.vcpe(
                [
                    "release", "add", Self.name, "--profile", "virtio", "--output", "\(Self.folder)/\(version)", "--to",
                    updates, "--compression", "1",
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
            "type=11,value=io.systemd.stub.kernel-cmdline-extra=vcpe.good-after=3 vcpe.pause=1 vcpe.trial=150 panic=1",
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
    func start(seconds: Double = 120) throws -> Machine {
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
    func spoil(_ slot: String) throws {
        let file = try File(disk, O_RDWR)
        let root = try #require(PartitionTable.read(file)[slot])
        try file.write([try file.read(1, at: root.offset + 1030)[0] ^ 1], at: root.offset + 1030)
    }
}

extension BootTests {
    /// One box's life with releases, which nobody touches: one whose kernel panics, a good one that its disk damages before it is started, and the same one
    /// whole. Some good one runs each time, with the box's configuration.
    @Test func aReleaseIsInstalledFoundGoodAndBadOnesFallBack() async throws {
        let bench = try await UpgradeBench(
            in: folder, releases: [("1.0.0", ""), ("0.9.9", ""), ("1.0.2", UpgradeBench.panics)], floor: "0.9.9")
        var box = try bench.start()
        #expect(try bench.ask(box, "vcpectl upgrade check", until: "1.0.2, published"), "\(box.story)")
        try bench.commit("first.lan", on: box)
        try bench.install("1.0.2", into: "root-b", on: box)
        #expect(box.console.contains("by patch"))
        for left in ["2-1", "1-2", "0-3"] {
            box = try bench.startUntilItEnds()
            #expect(box.console.contains("Kernel panic") && box.event("up") == nil, "\(box.story)")
            #expect(try bench.entries() == ["vcpe-1.efi", "vcpe-2+\(left).efi"])
        }
        box = try bench.start()
        #expect(field("version", of: box.event("up")) == "1.0.0", "\(box.story)")
        let why = "1.0.2 fell back: it went down without a word"
        #expect(try bench.ask(box, "vcpectl upgrade status", until: why), "\(box.story)")

        try bench.install("0.9.9", into: "root-b", on: box)
        try bench.spoil("root-b")
        for _ in 0..<3 {
            box = try bench.startUntilItEnds()
            #expect(
                field("reason", of: box.event("failed"))?.contains("no slot holds the root") == true, "\(box.story)")
        }
        box = try bench.start()
        #expect(field("version", of: box.event("up")) == "1.0.0", "\(box.story)")
        #expect(try bench.ask(box, "vcpectl upgrade status", until: "no slot holds the root"), "\(box.story)")

        try bench.install("0.9.9", into: "root-b", on: box)
        box = try bench.start()
        #expect(field("version", of: box.event("up")) == "0.9.9" && field("slot", of: box.event("up")) == "root-b")
        // Armed before the root was opened.
        #expect(box.events.first?.contains("watchdog") == true, "\(box.story)")
        #expect(box.wait(for: "good", seconds: 120) != nil, "\(box.story)")
        #expect(try bench.entries() == ["vcpe-1.efi", "vcpe-2.efi"])
        #expect(try bench.ask(box, "vcpectl upgrade history", until: "0.9.9 good"), "\(box.story)")
        // What fell back is installed by nobody but who asks for it.
        #expect(
            try bench.ask(box, "/usr/lib/vcpe/vcpe-updater automatic", until: "1.0.2 fell back before"), "\(box.story)")
        #expect(
            try bench.ask(box, "busybox cat /data/vcpe/upgrade/known", until: "\"version\":\"0.9.9\""), "\(box.story)")
        #expect(try bench.ask(box, "vcpectl upgrade install --to 1.0.0", until: "is older than 0.9.9"), "\(box.story)")
        #expect(try bench.ask(box, "vcpectl show lan.domain", until: "first.lan"), "\(box.story)")
    }
}

/// What takes longer: releases that go bad after they were found good, or that are bad in other ways.
@Suite(.serialized) final class UpgradeTorture {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-upgrade") }

    deinit { try? FileSystem.remove(folder) }

    /// The disk damages a release long after it was found good: the one before runs again, with what was its configuration then.
    @Test func aGoodReleaseThatIsDamagedLaterGivesWayToTheOneBefore() async throws {
        let bench = try await UpgradeBench(in: folder, releases: [("1.0.0", ""), ("1.0.1", "")])
        var box = try bench.start()
        try bench.commit("first.lan", on: box)
        try bench.install("1.0.1", into: "root-b", on: box)
        // One image under two names, as a rename leaves it that power fails upon: the loader can't count this start.
        try bench.copyEntry("vcpe-2+3.efi", as: "vcpe-2+2-1.efi")
        box = try bench.start()
        #expect(box.wait(for: "good", seconds: 120) != nil, "\(box.story)")
        #expect(try bench.entries() == ["vcpe-1.efi", "vcpe-2.efi"])
        try bench.commit("second.lan", on: box)
        try box.tell("system_powerdown")
        #expect(box.waitForEnd(), "\(box.story)")
        try bench.spoil("root-b")
        for _ in 0..<3 {
            box = try bench.startUntilItEnds()
            #expect(box.event("failed") != nil && box.event("jump") == nil, "\(box.story)")
        }
        box = try bench.startUntilItEnds()
        #expect(field("to", of: box.event("jump")) == "vcpe-1.efi", "\(box.story)")
        box = try bench.start()
        #expect(field("version", of: box.event("up")) == "1.0.0", "\(box.story)")
        #expect(try bench.ask(box, "vcpectl show lan.domain", until: "first.lan"), "\(box.story)")
        #expect(try bench.ask(box, "vcpectl history", until: "2  "), "\(box.story)")
        #expect(box.wait(for: "good", seconds: 120) != nil, "\(box.story)")
        #expect(try bench.entries() == ["vcpe-1.efi", "vcpe-2+0-1.efi"])
        #expect(try bench.ask(box, "vcpectl upgrade history", until: "1.0.1 fell back"), "\(box.story)")
    }

    /// Power fails somewhere in an upgrade, as QEMU has written down all that reached the disk: the release comes, restarts, is tried and found good. Then the
    /// box is started from what was there.
    @Test func powerCutsInAnUpgrade() async throws {
        let bench = try await UpgradeBench(in: folder, releases: [("1.0.0", ""), ("1.0.1", "")])
        var box = try bench.start()
        try bench.commit("first.lan", on: box)
        try box.tell("system_powerdown")
        #expect(box.waitForEnd(), "\(box.story)")
        let before = "\(folder)/before.raw"
        try Command("cp", ["--sparse=always", bench.disk, before]).check()
        let logs = ["\(folder)/first.log", "\(folder)/second.log"]
        try bench.record(to: logs[0])
        box = try bench.start()
        try bench.install("1.0.1", into: "root-b", on: box)
        try bench.record(to: logs[1])
        box = try bench.start()
        #expect(box.wait(for: "good", seconds: 120) != nil, "\(box.story)")
        box.kill()
        try bench.record(to: nil)

        let writes = try logs.map { try LoggedWrites($0) }
        let all = writes.flatMap { log in log.entries.map { (log: log, entry: $0) } }
        let table = try PartitionTable.read(try File(before))
        let esp = try #require(table["esp"])
        // Half of the cuts anywhere, half where entries change.
        let entries = all.indices.filter { place in
            let entry = all[place].entry
            return entry.count > 0 && entry.offset >= esp.offset && entry.offset < esp.offset + esp.size
        }
        var random = Random(seed: Torture.seed)
        let boots = getenv("VCPE_TORTURE_BOOTS").flatMap { Int(String(cString: $0)) } ?? 50
        let places = (0..<boots).map { number in
            number % 2 == 0 || entries.isEmpty
                ? random.next(all.count) : entries[random.next(entries.count)] + random.next(2)
        }.sorted()
        var (failed, versions, applied) = (0, [String: Int](), 0)
        for (number, place) in places.enumerated() {
            // `before` goes along, up to the last flush; what came since may be there or not.
            let flushed = all[..<place].lastIndex { $0.entry.isFlush }.map { $0 + 1 } ?? 0
            let file = try File(before, O_RDWR)
            while applied < flushed {
                try all[applied].log.apply(all[applied].entry, to: file)
                applied += 1
            }
            try FileSystem.remove(bench.disk)
            try Command("cp", ["--sparse=always", before, bench.disk]).check()
            let disk = try File(bench.disk, O_RDWR)
            let isTorn = number % 3 == 0
            for (log, entry) in all[flushed..<place] {
                try log.apply(entry, to: disk) { !isTorn || random.next(2) == 0 }
            }
            box = try bench.start(seconds: 200)
            let version = field("version", of: box.event("up")) ?? "none"
            versions[version, default: 0] += 1
            let isWell =
                ["1.0.0", "1.0.1"].contains(version) && field("data", of: box.event("up")) == "mounted"
                ? try bench.ask(box, "vcpectl show lan.domain", until: "first.lan") : false
            if !isWell {
                failed += 1
                Issue.record("cut \(number) at \(place) of \(all.count), seed \(Torture.seed): \(box.story)")
            }
            box.kill()
        }
        print("\(all.count) writes and flushes, \(entries.count) of them to the boot partition; started: \(versions)")
        try Torture.note("cuts of power in upgrades, started", checked: boots, failed: failed)
    }

    /// What may be wrong with a release that passes every look before it is started.
    enum Fault: String, CaseIterable {
        case wanIsDead, engineFalls, fillsTheDisk, initHangs

        /// A file of the image, as its definition has it.
        var file: String {
            func script(_ path: String, _ lines: String) -> String {
                "  \(path): {content: \"#!/bin/sh\\n\(lines)\\n\", mode: \"0755\"}"
            }
            let engine = "/usr/lib/vcpe/vcpe-engine"
            return switch self {
            case .wanIsDead: script("/usr/sbin/dhcpcd", "exit 1")
            case .engineFalls: script(engine, "[ \\\"$1\\\" = check ]")
            case .fillsTheDisk:
                script(
                    engine,
                    "[ \\\"$1\\\" = check ] && exit 0\\nbusybox dd if=/dev/zero of=/data/vcpe/full bs=64k\\nexit 1")
            // It neither ends nor feeds the watchdog, which it got armed.
            case .initHangs: script("/usr/sbin/init", "while :; do busybox sleep 1000; done")
            }
        }

        /// What the box says of it afterwards.
        var reason: String {
            switch self {
            case .wanIsDead: "these probes fail: repository"
            case .engineFalls, .fillsTheDisk: "engine is"
            case .initHangs: "it went down without a word"
            }
        }
    }

    /// Releases that start and don't do their work: the box has the old one again after three tries.
    @Test(arguments: Fault.allCases) func aReleaseThatDoesNotWorkFallsBack(_ fault: Fault) async throws {
        let bench = try await UpgradeBench(in: folder, releases: [("1.0.0", ""), ("1.0.1", fault.file)])
        var box = try bench.start()
        try bench.commit("first.lan", on: box)
        try bench.install("1.0.1", into: "root-b", on: box)
        for _ in 0..<3 {
            box = try bench.startUntilItEnds(seconds: 300)
            #expect(box.event(fault == .initHangs ? "initramfs" : "trial-failed") != nil, "\(box.story)")
            #expect(box.event("good") == nil, "\(box.story)")
        }
        box = try bench.start()
        #expect(field("version", of: box.event("up")) == "1.0.0", "\(box.story)")
        #expect(try bench.ask(box, "vcpectl upgrade status", until: fault.reason), "\(box.story)")
        #expect(try bench.ask(box, "vcpectl show lan.domain", until: "first.lan"), "\(box.story)")
        #expect(box.wait(for: "good", seconds: 120) != nil, "\(box.story)")
    }

    /// The boot loader that a release brings is tried once, and taken when the box came up by it; one that does not start is left alone.
    @Test func aBootLoaderIsTriedBeforeItIsTaken() async throws {
        let bench = try await UpgradeBench(in: folder, releases: [("1.0.0", "")])
        let own = try bench.loader()
        // An older one is there, as far as its name goes.
        let older = try bench.loader { bytes in
            let magic = Array("LoaderInfo: systemd-boot 2".utf8)
            if let place = bytes.indices.dropLast(magic.count).first(where: { bytes[$0...].starts(with: magic) }) {
                bytes[place + magic.count] = 0x34
            }
        }
        #expect(older != own)
        func restart(_ box: Machine) throws -> Machine {
            try box.type("reboot\n")
            #expect(box.waitForEnd(), "\(box.story)")
            return try bench.start()
        }
        var box = try bench.start()
        #expect(try bench.ask(box, "vcpectl upgrade status", until: "this release brings the boot loader systemd-boot"))
        #expect(try bench.ask(box, "vcpectl upgrade loader", until: "is tried when the box restarts"), "\(box.story)")
        #expect(try bench.loader() == older)
        box = try restart(box)
        #expect(try bench.ask(box, "vcpectl upgrade history", until: "systemd-boot"), "\(box.story)")
        #expect(try bench.loader() == own)
        #expect(try bench.ask(box, "vcpectl upgrade loader", until: "is this release's already"), "\(box.story)")
        // One whose headers are gone is not started by the firmware; one whose program is gone halts this firmware, until somebody switches the box off and on.
        for (place, halts) in [("bs=64 seek=1 count=60", false), ("bs=4096 seek=1 count=8", true)] {
            let spoil = [
                "cd /tmp; busybox cp /usr/lib/vcpe/loader.efi bad",
                "busybox dd if=/dev/zero of=bad \(place) conv=notrunc",
                "busybox mount --bind bad /usr/lib/vcpe/loader.efi",
            ]
            try box.type(spoil.joined(separator: "; ") + "\n")
            // The service has mounts of its own.
            let directly = "/usr/lib/vcpe/vcpe-updater answer loader"
            #expect(try bench.ask(box, directly, until: "is tried when the box restarts"), "\(box.story)")
            if halts {
                try box.type("reboot\n")
                #expect(box.waitForEnd(), "\(box.story)")
                let halted = try bench.startUntil("Exception Type")
                halted.kill()
                box = try bench.start()
            } else {
                box = try restart(box)
            }
            #expect(
                try bench.ask(box, "vcpectl upgrade status", until: "fell back: the firmware did not come up by it"),
                "\(box.story)")
            #expect(try bench.loader() == own)
            #expect(box.wait(for: "good", seconds: 120) != nil, "\(box.story)")
        }
    }

    /// A technician with a stick, where no line goes: the same signatures, the same trial.
    @Test func aStickBringsReleasesWhereNoLineDoes() async throws {
        let bench = try await UpgradeBench(in: folder, releases: [("1.0.0", ""), ("1.0.1", "")])
        try bench.useStick()
        var box = try bench.start()
        try bench.install("1.0.1", into: "root-b", on: box)
        box = try bench.start()
        #expect(field("version", of: box.event("up")) == "1.0.1", "\(box.story)")
        #expect(box.wait(for: "good", seconds: 120) != nil, "\(box.story)")
    }

    /// What can be known before a release is started: it is not installed, and what runs is as it was.
    @Test func whatCanNotGoOnIsNotInstalled() async throws {
        let engine = "/usr/lib/vcpe/vcpe-engine"
        let refuses = "  \(engine): {content: \"#!/bin/sh\\necho the plan fails >&2\\nexit 1\\n\", mode: \"0755\"}"
        let bench = try await UpgradeBench(
            in: folder, releases: [("1.0.0", ""), ("1.0.1", refuses), ("1.0.2", "")])
        let box = try bench.start()
        try bench.commit("first.lan", on: box)
        let install = "vcpectl upgrade install --to"
        #expect(
            try bench.ask(box, "\(install) 1.0.1", until: "can't go on with this box's configuration"), "\(box.story)")
        #expect(try bench.entries() == ["vcpe-1.efi"])
        // Nothing can be written down: then nothing is begun that would need it.
        try box.type("busybox dd if=/dev/zero of=/data/full bs=64k\n")
        #expect(try bench.ask(box, "\(install) 1.0.2", until: "No space left on device"), "\(box.story)")
        #expect(try bench.entries() == ["vcpe-1.efi"])
        #expect(
            try bench.ask(box, "busybox rm /data/full; vcpectl show lan.domain", until: "first.lan"), "\(box.story)")
        #expect(
            try bench.ask(box, "vcpectl upgrade download --to 1.0.2", until: "nothing starts it yet"), "\(box.story)")
        #expect(try bench.entries() == ["vcpe-1.efi"])
        #expect(try bench.ask(box, "\(install) 1.0.2", until: "1.0.2 is installed into root-b"), "\(box.story)")
        #expect(try bench.entries() == ["vcpe-1.efi", "vcpe-2+3.efi"])
        #expect(try bench.ask(box, "vcpectl upgrade download --to 1.0.2", until: "waits for a restart"), "\(box.story)")
    }
}
