import CSystem
import Clocks
import Glibc

/// The first half of a start: from the kernel's initramfs to the verified root.
struct InitramfsBoot {
    private static let root = "/sysroot"
    /// How long disks may take to appear: a USB stick behind a hub needs seconds.
    private static let deadline = 30_000
    /// Starts in a row that may fail before the box waits.
    private static let patience = 3
    /// Good starts in a row that may end without a word.
    private static let patienceWithPower = 5

    private var loader = ModuleLoader(root: "")
    private var state: StateRecord?
    /// Read once the driver for them is there.
    private lazy var loaderVariables = LoaderVariables()
    /// This is the other release, since the one that the loader prefers has failed too often.
    private var isJump = false

    /// Never returns: the box goes on in its root, or starts again.
    mutating func run() -> Never {
        if csystem_has_early_mounts() == 0 { mountPseudo() }
        mount("tmpfs", "/run", "tmpfs", UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC), "mode=0755,size=15%")
        let begin = Uptime.milliseconds
        do throws(Failure) {
            for module in Text.lines("/etc/vcpe-modules") { loader.load(String(module)) }
            loader.loadForPresentDevices()
            HardwareWatchdog.open()
            EventPort.send("initramfs")
            let root = try VerifiedRoot()
            var disk = try findDisk()
            let found = Uptime.milliseconds
            try countStart(disk)
            let slot = try mountRoot(root, disk)
            let opened = Uptime.milliseconds
            let data = mountData(&disk)
            try handOver(
                disk, slot: slot, data: data,
                times: [
                    ("kernel", begin), ("disk", found - begin), ("root", opened - found),
                    ("data", Uptime.milliseconds - opened),
                ])
        } catch {
            fail(error)
        }
    }

    private func mountPseudo() {
        mount("proc", "/proc", "proc", UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC), nil)
        mount("sysfs", "/sys", "sysfs", UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC), nil)
        mount("devtmpfs", "/dev", "devtmpfs", UInt(MS_NOSUID), "mode=0755")
    }

    // MARK: - The disk

    /// Waits for the disk that the firmware booted from.
    private mutating func findDisk() throws(Failure) -> Disk {
        let wanted = bootPartition()
        let end = Uptime.milliseconds + Self.deadline
        var nextProbe = Uptime.milliseconds + 500
        while true {
            let disks = Disk.all()
            if let wanted {
                let found = disks.filter { $0["esp"]?.guid == wanted }
                if found.count == 1, let disk = found.first { return disk }
                if found.count > 1 {
                    throw Failure(
                        "\(found.map(\.path).joined(separator: " and ")) carry the same identifiers: take one of them out, "
                            + "and write it anew by vcpe flash")
                }
            } else if disks.count == 1, let disk = disks.first {
                return disk
            } else if disks.count > 1 {
                throw Failure(
                    "\(disks.map(\.path).joined(separator: " and ")) could both be the box's disk, and the firmware "
                        + "does not say which: name one by vcpe.esp=GUID on the kernel's command line")
            }
            guard Uptime.milliseconds < end else {
                let there = Text.list("/sys/class/block").joined(separator: " ")
                throw Failure(
                    "no disk with the box's partitions\(wanted == nil ? "" : " that the firmware booted from") within "
                        + "\(Self.deadline / 1000) s; block devices: \(there.isEmpty ? "none" : there)")
            }
            Uptime.sleep(milliseconds: 50)
            if Uptime.milliseconds > nextProbe {
                loader.loadForPresentDevices()
                nextProbe = Uptime.milliseconds + 500
            }
        }
    }

    /// The GUID of the EFI system partition that was booted from, as on disk: from the command line or from systemd-boot.
    private mutating func bootPartition() -> [UInt8]? {
        if let text = CommandLineOption.value("vcpe.esp") { return Self.parse(text) }
        return loaderVariables.devicePartition.flatMap(Self.parse)
    }

    /// From the usual notation to the bytes on disk: the first three groups are little-endian.
    private static func parse(_ guid: String) -> [UInt8]? {
        let groups = guid.split(separator: "-")
        guard groups.map(\.count) == [8, 4, 4, 4, 12] else { return nil }
        var result: [UInt8] = []
        for (i, group) in groups.enumerated() {
            guard let value = UInt64(group, radix: 16) else { return nil }
            let bytes = (0..<group.count / 2).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
            result += i < 3 ? bytes : bytes.reversed()
        }
        return result
    }

    // MARK: - Counting

    /// Notes that a start begins; too many that never became good, and the box waits before it tries again.
    private mutating func countStart(_ disk: Disk) throws(Failure) {
        guard let partition = disk["state"] else { return }
        var record = StateRecord(path: disk.device(partition))
        // Who has it install one box after the other, and pulls it out as told, says nothing against it.
        if record.isStick(disk), loaderVariables.other == nil { (record.failedStarts, record.suddenEnds) = (0, 0) }
        let entry = UInt32(clamping: loaderVariables.number ?? 0)
        // Power may have failed before the loader was told: then this is no jump.
        isJump = record.isJump && entry != record.entry
        record.isJump = false
        if !isJump, entry != record.entry {
            // Another release than the one that failed: the loader has given that up.
            (record.entry, record.failedStarts, record.suddenEnds, record.jumps) = (entry, 0, 0, 0)
        }
        if record.failedStarts >= Self.patience, !isJump {
            let reason = record.reason.isEmpty ? "unknown, the box went down without a word" : record.reason
            let failures = "\(record.failedStarts) starts in a row have failed; last reason: \(reason)"
            jump(&record, failures)
            wait(
                record, failures + (record.jumps > 0 ? "; so did the other release" : ", and there is no other release")
            )
            record.jumps = 0
        } else if record.suddenEnds >= Self.patienceWithPower {
            wait(record, "\(record.suddenEnds) starts in a row were good and ended soon after without a word")
        }
        record.failedStarts += 1
        record.suddenEnds = min(record.suddenEnds, 1000) + 1
        state = record
        do {
            try state?.save()
        } catch {
            // A box whose state can't be written still forwards: it only can't count.
            Console.sayEverywhere("the start can't be counted: \(error)")
        }
    }

    /// Starts the other release, where there is one that may still be tried; else returns.
    private mutating func jump(_ record: inout StateRecord, _ why: String) {
        guard record.jumps < Self.patience, let other = loaderVariables.other, LoaderVariables.startOnce(other) else {
            return
        }
        var next = record
        next.jumps += 1
        next.isJump = true
        do { try next.save() } catch {
            // Who can't count would go to and fro for ever.
            return Console.sayEverywhere("the start can't be counted: \(error)")
        }
        EventPort.send("jump", [("to", other), ("reason", record.reason)])
        Console.sayEverywhere("\(why). Starting \(other).")
        Stop.now(powerOff: false)
    }

    private func wait(_ record: StateRecord, _ why: String) {
        let minutes = 10
        EventPort.send(
            "waiting",
            [
                ("failed-starts", "\(record.failedStarts)"), ("sudden-ends", "\(record.suddenEnds)"),
                ("reason", record.reason),
            ])
        for left in stride(from: minutes, to: 0, by: -1) {
            Console.sayEverywhere("\(why). Trying again in \(left) minutes.")
            Uptime.sleep(milliseconds: 60_000)
        }
    }

    // MARK: - Mounting

    /// Opens the slot whose contents have the hash that the kernel image names.
    private func mountRoot(_ root: VerifiedRoot, _ disk: Disk) throws(Failure) -> String {
        var reasons: [String] = []
        var slots: [(name: String, device: String)] = []
        for slot in ["root-a", "root-b"] {
            guard let partition = disk[slot] else { continue }
            let device = disk.device(partition)
            // The other one is tried, too: where only the name is damaged, all that counts may be whole.
            slots.insert((slot, device), at: root.isNamed(on: device) ? 0 : slots.count)
        }
        for (slot, partition) in slots {
            do {
                let device = try root.open(on: partition)
                guard mount(device, Self.root, "erofs", UInt(MS_RDONLY), nil) == 0 else {
                    throw Failure("mount", device)
                }
                return slot
            } catch {
                csystem_unmap_device("root")
                reasons.append("\(slot): \(error)")
            }
        }
        throw Failure("no slot holds the root that this kernel image was made for; \(reasons.joined(separator: "; "))")
    }

    /// Mounts /data, or a file system in memory in its place: the box runs in any case.
    private mutating func mountData(_ disk: inout Disk) -> String {
        // e2fsprogs of the verified root want device nodes.
        mount("/dev", "\(Self.root)/dev", nil, UInt(MS_BIND), nil)
        mount("/proc", "\(Self.root)/proc", nil, UInt(MS_BIND), nil)
        defer {
            umount2("\(Self.root)/proc", 0)
            umount2("\(Self.root)/dev", 0)
        }
        guard var record = state else { return "in memory: there is no state partition" }
        do {
            let remark = try DataPartition.mount(&disk, state: &record, root: Self.root)
            state = record
            if let remark { Console.say(remark) }
            return "mounted"
        } catch {
            state = record
            mount("tmpfs", "\(Self.root)/data", "tmpfs", UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC), "mode=0755,size=10%")
            Console.sayEverywhere("the box runs on its factory state, in memory, nothing is kept: \(error)")
            return "in memory: \(error)"
        }
    }

    // MARK: - Going on

    private mutating func handOver(_ disk: Disk, slot: String, data: String, times: [(String, Int)]) throws(Failure)
        -> Never
    {
        mkdir("/run/vcpe", 0o755)
        let lines =
            [
                "slot \(slot)", "root-a \(device(of: "root-a", disk))", "root-b \(device(of: "root-b", disk))",
                "disk \(disk.path)", "stick \(state?.isStick(disk) ?? disk.isRemovable ? "yes" : "no")",
                "state \(device(of: "state", disk))", "data \(data)",
                "esp \(device(of: "esp", disk))", "entry \(loaderVariables.entry ?? "")",
                "secure-boot \(loaderVariables.isSecureBoot ? "on" : "off")",
                "trial \(loaderVariables.countedPath == nil ? "no" : "yes")", "jump \(isJump ? "yes" : "no")",
                "reason \(state?.reason ?? "")",
            ] + (HardwareWatchdog.handOver().map { ["watchdog \($0)"] } ?? [])
            + times.map { "time \($0.0) \($0.1)" }
        Text.write(lines.joined(separator: "\n") + "\n", to: "/run/vcpe/boot")
        for name in ["dev", "proc", "sys", "run"] {
            guard mount("/\(name)", "\(Self.root)/\(name)", nil, UInt(MS_MOVE), nil) == 0 else {
                throw Failure("mount --move", name)
            }
        }
        guard chdir(Self.root) == 0 else { throw Failure("chdir", Self.root) }
        removeInitramfs("/", device: deviceNumber("/"))
        guard mount(".", "/", nil, UInt(MS_MOVE), nil) == 0, chroot(".") == 0, chdir("/") == 0 else {
            throw Failure("mount --move", Self.root)
        }
        let argv = [strdup("/usr/sbin/init"), nil]
        execv("/usr/sbin/init", argv)
        throw Failure("execve", "/usr/sbin/init")
    }

    private func device(of name: String, _ disk: Disk) -> String { disk[name].map { disk.device($0) } ?? "" }

    private func deviceNumber(_ path: String) -> UInt {
        var status = stat()
        return lstat(path, &status) == 0 ? UInt(status.st_dev) : 0
    }

    /// Gives the initramfs's memory back; other file systems are never entered.
    private func removeInitramfs(_ folder: String, device: UInt) {
        for name in Text.list(folder) {
            let path = folder == "/" ? "/\(name)" : "\(folder)/\(name)"
            var status = stat()
            guard lstat(path, &status) == 0, UInt(status.st_dev) == device else { continue }
            if status.st_mode & S_IFMT == S_IFDIR {
                removeInitramfs(path, device: device)
                rmdir(path)
            } else {
                unlink(path)
            }
        }
    }

    /// Says what happened, keeps it for the next start, and starts again after a while.
    private mutating func fail(_ failure: Failure) -> Never {
        EventPort.send("failed", [("reason", failure.description)])
        Console.sayEverywhere("the start has failed: \(failure)")
        state?.reason = failure.description
        try? state?.save()
        if CommandLineOption.isDebug, access("/bin/sh", X_OK) == 0 {
            Console.sayEverywhere("emergency shell; leave it to start again")
            let console = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC)
            if let shell = try? Child.start(
                "/bin/sh", [], name: "-sh", as: .init(output: console, input: console))
            {
                _ = Child.wait(shell)
            }
        }
        // Where nothing can be counted, each try is as slow as the ones after too many.
        let usual = state == nil ? 600 : 30
        let pause = min(max(CommandLineOption.value("vcpe.pause").flatMap { Int($0) } ?? usual, 1), 3600)
        Console.sayEverywhere("starting again in \(pause) s")
        Uptime.sleep(milliseconds: pause * 1000)
        Stop.now(powerOff: false)
    }
}

/// The end of a run.
enum Stop {
    static func now(powerOff: Bool) -> Never {
        sync()
        csystem_reboot(powerOff ? csystem_power_off() : csystem_restart())
        // Only a kernel that can do neither comes here; PID 1 must not end.
        while true { Uptime.sleep(milliseconds: 1000) }
    }
}
