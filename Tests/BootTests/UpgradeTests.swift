import Disks
import Files
import Glibc
import Processes
import TestSupport
import Testing

extension BootTests {
    /// One box's life with releases, which nobody touches: one whose kernel panics, a good one that its disk damages before it is started, and the same one
    /// whole. Some good one runs each time, with the box's configuration; and wherever power fails when the last one comes.
    @Test func aReleaseIsInstalledFoundGoodAndBadOnesFallBack() async throws {
        let bench = try await UpgradeBench(
            in: folder, releases: [("1.0.0", ""), ("0.9.9", ""), ("1.0.2", UpgradeBench.panics)], floor: "0.9.9")
        var box = try bench.start()
        #expect(try bench.ask(box, "vcpectl upgrade check", until: "1.0.2, published"), "\(box.story)")
        #expect(try bench.ask(box, "vcpectl slots", until: "vcpe-1.efi: good, runs 1.0.0 from root-a"), "\(box.story)")
        // Of the updater's two services only the fetcher has the box's links.
        let links = "for p in $(busybox pidof vcpe-updater); do busybox grep -c wan: /proc/$p/net/dev; done"
        let count = "echo links $(\(links) | busybox sort) each"
        #expect(try bench.ask(box, count, until: "links 0 1 each"), "\(box.story)")
        // Whatever hangs in the kernel ends the start.
        for name in ["softlockup_panic", "hung_task_panic"] {
            let command = "[ $(busybox cat /proc/sys/kernel/\(name)) = 1 ] && echo $((20+3))-\(name)"
            #expect(try bench.ask(box, command, until: "23-\(name)"), "\(box.story)")
        }
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
        let cuts = try UpgradeCuts(of: bench, seed: 7)
        box = try bench.start()
        #expect(field("version", of: box.event("up")) == "1.0.0", "\(box.story)")
        #expect(try bench.ask(box, "vcpectl upgrade status", until: "no slot holds the root"), "\(box.story)")

        try bench.install("0.9.9", into: "root-b", on: box)
        try cuts.recordNextStart()
        box = try bench.start(clock: "2035-01-02T12:00:00")
        #expect(field("version", of: box.event("up")) == "0.9.9" && field("slot", of: box.event("up")) == "root-b")
        // Armed before the root was opened.
        #expect(box.events.first?.contains("watchdog") == true, "\(box.story)")
        #expect(box.wait(for: "good", seconds: 120) != nil, "\(box.story)")
        #expect(try bench.entries() == ["vcpe-1.efi", "vcpe-2.efi"])
        #expect(try bench.ask(box, "vcpectl upgrade history", until: "0.9.9 good"), "\(box.story)")
        // A clock that is ahead leaves no lasting state. One that is late, but within the valid range, counts less
        // than the last time at which metadata were trusted.
        #expect(try bench.ask(box, "vcpectl upgrade check", until: "and it is 2035-01-02"), "\(box.story)")
        #expect(try bench.ask(box, "busybox date -s @\(time(nil) - 43_200)", until: " UTC 20"), "\(box.story)")
        #expect(try bench.ask(box, "vcpectl upgrade check", until: "1.0.2, published"), "\(box.story)")
        // What fell back is installed by nobody but who asks for it.
        #expect(
            try bench.ask(box, "/usr/lib/vcpe/vcpe-updater automatic", until: "1.0.2 fell back before"), "\(box.story)")
        #expect(
            try bench.ask(box, "busybox cat /data/vcpe/upgrade/known", until: "\"version\":\"0.9.9\""), "\(box.story)")
        #expect(try bench.ask(box, "vcpectl upgrade install --to 1.0.0", until: "is older than 0.9.9"), "\(box.story)")
        try box.type(
            #"vcpectl show >/tmp/a; sed 's/health-time: 3/&\n  window: {from: "02:00", to: "04:00"}/' /tmp/a >/tmp/b; vcpectl apply /tmp/b"#
                + "\n")
        let window = "looks by itself, UTC: from 02:00 to 04:00, this box from 0"
        #expect(try bench.ask(box, "vcpectl upgrade status", until: window), "\(box.story)")
        #expect(try bench.ask(box, "vcpectl show lan.domain", until: "first.lan"), "\(box.story)")
        box.kill()

        let looked = try cuts.look(500, document: "domain: first.lan")
        #expect(looked.checked >= 500 && looked.failed == 0, "\(looked)")
        #expect(try cuts.start(3, versions: ["1.0.0", "0.9.9"], domain: "first.lan") == 0)
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
        let bench = try await UpgradeBench(in: folder, releases: [("1.0.0", ""), ("1.0.1", ""), ("1.0.2", "")])
        var box = try bench.start()
        try bench.commit("first.lan", on: box)
        // So that the slot that is written then has an entry.
        try bench.install("1.0.1", into: "root-b", on: box)
        box = try bench.start()
        #expect(box.wait(for: "good", seconds: 120) != nil, "\(box.story)")
        try box.tell("system_powerdown")
        #expect(box.waitForEnd(), "\(box.story)")
        let cuts = try UpgradeCuts(of: bench, seed: Torture.seed)
        box = try bench.start()
        try bench.install("1.0.2", into: "root-a", on: box)
        try cuts.recordNextStart()
        box = try bench.start()
        #expect(box.wait(for: "good", seconds: 120) != nil, "\(box.story)")
        box.kill()

        func setting(_ name: String) -> Int? { getenv(name).flatMap { Int(String(cString: $0)) } }
        let looks = setting("VCPE_TORTURE_LOOKS") ?? 10_000
        let outcome = try cuts.look(looks, document: "domain: first.lan")
        try Torture.note(
            "cuts of power in a real upgrade, looked at", checked: outcome.checked, failed: outcome.failed)
        let boots = setting("VCPE_TORTURE_BOOTS") ?? 50
        let failed = try cuts.start(boots, versions: ["1.0.1", "1.0.2"], domain: "first.lan")
        try Torture.note("cuts of power in upgrades, started", checked: boots, failed: failed)
    }

    /// What may be wrong with a release that passes every look before it is started.
    enum Fault: String, CaseIterable {
        case wanIsDead, engineFalls, fillsTheDisk, initHangs, lateBlockIsDamaged

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
            case .lateBlockIsDamaged: ""
            }
        }

        /// What the box says of it afterwards.
        var reason: String {
            switch self {
            case .wanIsDead: "these probes fail: repository"
            case .engineFalls, .fillsTheDisk: "engine is"
            case .initHangs, .lateBlockIsDamaged: "it went down without a word"
            }
        }

        /// What comes of each start, before it ends.
        var event: String {
            switch self {
            case .initHangs: "initramfs"
            case .lateBlockIsDamaged: "up"
            case .wanIsDead, .engineFalls, .fillsTheDisk: "trial-failed"
            }
        }
    }

    /// Releases that start and don't do their work: the box has the old one again after three tries.
    @Test(arguments: Fault.allCases) func aReleaseThatDoesNotWorkFallsBack(_ fault: Fault) async throws {
        let bench = try await UpgradeBench(in: folder, releases: [("1.0.0", ""), ("1.0.1", fault.file)])
        var box = try bench.start()
        try bench.commit("first.lan", on: box)
        try bench.install("1.0.1", into: "root-b", on: box)
        // One image under two names, as a rename leaves it that power fails upon: the loader can't count, and PID 1 does.
        let isUncounted = fault == .wanIsDead
        // Nothing reads it at a start but who looks at all of it.
        if fault == .lateBlockIsDamaged { try bench.spoil("root-b", late: true) }
        if isUncounted { try bench.copyEntry("vcpe-2+3.efi", as: "vcpe-2+2-1.efi") }
        for _ in 0..<3 {
            box = try bench.startUntilItEnds(seconds: 300)
            #expect(box.event(fault.event) != nil, "\(box.story)")
            #expect(box.event("good") == nil, "\(box.story)")
        }
        if isUncounted {
            box = try bench.startUntilItEnds()
            #expect(field("to", of: box.event("jump")) == "vcpe-1.efi", "\(box.story)")
        }
        box = try bench.start()
        #expect(field("version", of: box.event("up")) == "1.0.0", "\(box.story)")
        #expect(try bench.ask(box, "vcpectl upgrade status", until: fault.reason), "\(box.story)")
        // A full disk takes no last words, but for what became of the release.
        if fault.event == "trial-failed", fault != .fillsTheDisk {
            let command = "[ $(busybox wc -l </data/vcpe/failed-start) -gt 20 ] && echo $((20+3))-lines"
            #expect(try bench.ask(box, command, until: "23-lines"), "\(box.story)")
        }
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
        #expect(try bench.ask(box, "vcpectl upgrade cancel", until: "1.0.2 is forgotten"), "\(box.story)")
        #expect(try bench.entries() == ["vcpe-1.efi"])
        #expect(try bench.ask(box, "\(install) 1.0.2", until: "1.0.2 is installed into root-b"), "\(box.story)")
        #expect(try bench.entries() == ["vcpe-1.efi", "vcpe-2+3.efi"])
        #expect(try bench.ask(box, "vcpectl upgrade download --to 1.0.2", until: "waits for a restart"), "\(box.story)")
    }
}
