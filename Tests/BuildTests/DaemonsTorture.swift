import Documents
import Files
import Glibc
import ImageBuilder
import Processes
import TestSupport
import Testing

/// The daemons of twenty packages with the packages' own configuration, started in an image by
/// their systemd units: each runs, or does what it does on Debian booted with systemd.
@Suite(.serialized) final class DaemonsTorture {
    private let own: OwnImages
    private var folder: String { own.folder }

    init() throws { own = try OwnImages() }

    private static let units = [
        "frr", "suricata", "unbound", "strongswan", "nginx", "squid", "haproxy", "keepalived", "snmpd",
        "kea-dhcp4-server", "libvirtd", "virtlogd", "openvpn", "prometheus-node-exporter", "radvd", "conntrackd",
    ]

    /// Seconds that daemons have to start under software emulation.
    private static let patience = 150

    @Test func daemonsStartAsOnDebian() throws {
        let (lock, ours) = try statesOfAnImage()
        let theirs = try statesOfDebian(lock)
        #expect(ours.count == Self.units.count && theirs.count == Self.units.count, "\(ours) \(theirs)")
        var failed = 0
        for unit in Self.units {
            let (own, other) = (ours[unit] ?? "none", theirs[unit] ?? "none")
            print("daemon \(unit): \(own) in the image, \(other) on Debian")
            // A daemon that fails on Debian may do as it likes; one whose condition is not met does
            // not run.
            let isSame =
                switch other {
                case "active": own == "running" || own == "ended"
                case "inactive": own == "ended"
                default: true
                }
            #expect(isSame, "\(unit) is \(own), on Debian \(other)")
            if !isSame { failed += 1 }
        }
        try Torture.note("daemons start as on Debian", checked: Self.units.count, failed: failed)
    }

    /// Reads the states of all services from PID 1 when they have had time, and prints them on the
    /// console.
    private static let probe = """
        import socket, time
        time.sleep(\(patience))
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.connect("/run/vcpe/init.sock")
        s.send(b"status")
        text = ""
        while not text.endswith("ok\\n"): text += s.recv(65536).decode()
        with open("/dev/console", "w") as console:
            for line in text.splitlines()[:-1]:
                name, state = line.split("\\t")[:2]
                console.write(f"PROBE {name} {state}\\n")
            console.write("PROBES-END\\n")

        """

    private func statesOfAnImage() throws -> (lock: Lock, states: [String: String]) {
        let services = Self.units.map { "  \($0): {unit: \($0).service}\n" }.joined()
        try FileSystem.replace("\(own.images)/probe.py", with: Self.probe)
        let lock = try own.make(
            "daemons",
            """
            packages: [\(PackagesTorture.packages.joined(separator: ", "))]
            partitions: {root: 3 GiB}
            modules: [kernel/net/]
            writable: [/etc/libvirt]
            files:
              /usr/local/bin/probe.py: {source: probe.py}
            services:
              probe: {command: [/usr/bin/python3, /usr/local/bin/probe.py], restart: never}
            \(services)
            """)
        let run = own.command(["run", "daemons", "--output", own.output, "--direct", "--memory", "2048"])
        return (lock, try states(run, log: "\(folder)/image.log"))
    }

    private func statesOfDebian(_ lock: Lock) throws -> [String: String] {
        let root = "\(folder)/root"
        try StockDebian.install(
            "\(own.images)/daemons.yaml", lock, PackagesTorture.packages,
            more: ["systemd-sysv", "udev", "dbus", "linux-image-cloud-amd64", "initramfs-tools"], to: root)
        let script = """
            #!/bin/sh
            sleep \(Self.patience)
            for unit in \(Self.units.joined(separator: " ")); do
                echo "PROBE $unit $(systemctl is-active $unit)"
            done >/dev/console
            echo PROBES-END >/dev/console

            """
        try FileSystem.replace("\(root)/usr/local/bin/probe", with: script, mode: 0o755)
        try FileSystem.replace(
            "\(root)/etc/systemd/system/probe.service",
            with: "[Service]\nExecStart=/usr/local/bin/probe\n[Install]\nWantedBy=multi-user.target\n")
        try Command("chroot", [root, "systemctl", "enable", "probe"] + Self.units).check()
        try FileSystem.replace("\(root)/etc/hostname", with: "stock\n")
        try Command("mke2fs", ["-q", "-t", "ext4", "-d", root, "\(folder)/stock.img", "4G"]).check()
        let boot = try FileSystem.list("\(root)/boot")
        let kernel = try #require(boot.first { $0.hasPrefix("vmlinuz-") })
        let initrd = try #require(boot.first { $0.hasPrefix("initrd.img-") })
        return try states(
            Command(
                "qemu-system-x86_64",
                [
                    "-m", "2048", "-smp", "2", "-nographic", "-no-reboot", "-nic", "none",
                    "-kernel", "\(root)/boot/\(kernel)", "-initrd", "\(root)/boot/\(initrd)",
                    "-append", "root=/dev/vda rw console=ttyS0",
                    "-drive", "file=\(folder)/stock.img,format=raw,if=virtio",
                ]), log: "\(folder)/stock.log")
    }

    /// Boots a machine and reads the states that its probe prints.
    private func states(_ command: Command, log: String) throws -> [String: String] {
        let machine = try command.start(output: File(log, O_WRONLY | O_CREAT | O_TRUNC))
        defer {
            machine.kill()
            _ = Wait.until(10) { machine.poll() != nil }
        }
        func text() -> String { (try? FileSystem.read(log)).map { String(decoding: $0, as: UTF8.self) } ?? "" }
        #expect(
            Wait.until(Double(Self.patience) + 300, every: 1) { text().contains("PROBES-END") },
            "\(text().suffix(4000))")
        var states: [String: String] = [:]
        for line in text().split(whereSeparator: \.isNewline) where line.hasPrefix("PROBE ") {
            let words = line.split(separator: " ").map(String.init)
            if words.count == 3, words[1] != "probe" { states[words[1]] = words[2] }
        }
        return states
    }
}
