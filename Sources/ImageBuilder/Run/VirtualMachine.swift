import Files
import Glibc

/// A QEMU machine that boots an image; `vcpe run` and the boot tests use the same one.
public struct VirtualMachine: Sendable {
    public enum Firmware: Sendable, Hashable {
        /// Kernel, initramfs and command line given by QEMU itself: half the time of a start by UEFI.
        case direct(kernel: String, initramfs: String, commandLine: String)
        /// OVMF with the given variables, a file that the machine may write.
        case uefi(variables: String, secureBoot: Bool)
    }

    public enum Bus: String, Sendable, CaseIterable {
        case virtio, nvme, sata, usb
    }

    public struct Disk: Sendable, Hashable {
        public var path: String
        public var format: String
        public var bus: Bus
        /// Bytes of a logical sector, on the bus virtio: 512, or 4096.
        public var sectorSize = 512

        public init(path: String, format: String = "raw", bus: Bus = .virtio) {
            self.path = path
            self.format = format
            self.bus = bus
        }
    }

    public struct Network: Sendable, Hashable {
        public enum Link: Sendable, Hashable {
            /// QEMU's own network: no privilege needed. `forwards` are `tcp::8080-:80`.
            case user(forwards: [String], restricted: Bool)
            /// A cable whose other end is a Unix socket at this path, for another QEMU to plug in.
            case cable(socket: String)
            /// A TAP link that QEMU inherits under this descriptor.
            case tap(descriptor: Int)
        }

        public var link: Link
        /// QEMU's name of the card, such as `virtio-net-pci` or `e1000e`.
        public var card: String
        /// The card's address; QEMU's own choice when nil.
        public var mac: String?

        public init(_ link: Link, card: String = "virtio-net-pci", mac: String? = nil) {
            self.link = link
            self.card = card
            self.mac = mac
        }
    }

    public var firmware: Firmware
    public var disks: [Disk]
    public var networks: [Network] = []
    /// Disks by their place in `disks`, in the order in which the firmware tries them; all of them in their order when
    /// empty.
    public var bootOrder: [Int] = []
    /// MiB.
    public var memory = 512
    public var processors = 2
    public var accelerator = Accelerator.tcg
    /// Changes to disks are thrown away at the end.
    public var isSnapshot = false
    /// The file that takes the events of the virtio port `org.vcpe.events`.
    public var events: String?
    /// The file of a site document that the box gets by the firmware.
    public var site: String?
    public var extra: [String] = []

    public init(firmware: Firmware, disks: [Disk]) {
        self.firmware = firmware
        self.disks = disks
    }

    /// QEMU's arguments, the console and display aside.
    public func arguments() throws -> [String] {
        var arguments = accelerator.arguments
        var machine = "q35"
        switch firmware {
        case .direct(let kernel, let initramfs, let commandLine):
            arguments += ["-kernel", kernel, "-initrd", initramfs, "-append", commandLine]
        case .uefi(let variables, let secureBoot):
            let code = try OVMF.find(secureBoot: secureBoot).code
            if secureBoot {
                machine += ",smm=on"
                arguments += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
            }
            arguments += [
                "-drive", "if=pflash,format=raw,unit=0,readonly=on,file=\(code)",
                "-drive", "if=pflash,format=raw,unit=1,file=\(variables)",
            ]
        }
        arguments += ["-M", machine, "-m", String(memory), "-smp", String(processors), "-nodefaults"]
        arguments += ["-device", "virtio-rng-pci", "-device", "qemu-xhci,id=usb", "-device", "virtio-serial-pci"]
        for (i, disk) in disks.enumerated() {
            arguments += ["-drive", "if=none,id=disk\(i),format=\(disk.format),file=\(disk.path)"]
            let device =
                switch disk.bus {
                case .virtio:
                    "virtio-blk-pci,drive=disk\(i),logical_block_size=\(disk.sectorSize),"
                        + "physical_block_size=\(disk.sectorSize)"
                case .nvme: "nvme,drive=disk\(i),serial=vcpe\(i)"
                case .sata: "ide-hd,drive=disk\(i)"
                case .usb: "usb-storage,id=stick\(i),bus=usb.0,drive=disk\(i),removable=on"
                }
            // With a kernel of its own QEMU gives that the first place.
            if case .direct = firmware {
                arguments += ["-device", device]
                continue
            }
            let place = (bootOrder.isEmpty ? Array(disks.indices) : bootOrder).firstIndex(of: i)
            arguments += ["-device", device + (place.map { ",bootindex=\($0)" } ?? "")]
        }
        for (i, network) in networks.enumerated() {
            switch network.link {
            case .user(let forwards, let restricted):
                let options = (restricted ? [",restrict=on"] : []) + forwards.map { ",hostfwd=\($0)" }
                arguments += ["-netdev", "user,id=net\(i)\(options.joined())"]
            case .cable(let path):
                arguments += ["-netdev", "stream,id=net\(i),server=on,addr.type=unix,addr.path=\(path)"]
            case .tap(let descriptor): arguments += ["-netdev", "tap,id=net\(i),fd=\(descriptor)"]
            }
            // In the order of their slots, whatever else is plugged in.
            let place = ",addr=0x\(String(0x10 + i, radix: 16))"
            arguments += [
                "-device", "\(network.card),netdev=net\(i)\(place)" + (network.mac.map { ",mac=\($0)" } ?? ""),
            ]
        }
        if let events {
            arguments += [
                "-chardev", "file,id=events,path=\(events)",
                "-device", "virtserialport,chardev=events,name=org.vcpe.events",
            ]
        }
        if let site { arguments += ["-fw_cfg", "name=opt/org.vcpe.site,file=\(site)"] }
        if isSnapshot { arguments.append("-snapshot") }
        return arguments + extra
    }
}

/// QEMU itself, and UEFI for it.
public enum QEMU {
    /// The path of `qemu-system-x86_64`.
    public static func find() throws -> String {
        let name = "qemu-system-x86_64"
        let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
        for folder in path.split(separator: ":") where access("\(folder)/\(name)", X_OK) == 0 {
            return "\(folder)/\(name)"
        }
        throw BuildFailure("there is no \(name) on the PATH", hint: "apt-get install qemu-system-x86 ovmf")
    }
}

/// UEFI for QEMU: Debian's package `ovmf`.
public enum OVMF {
    /// Firmware code and a template of its variables; with Secure Boot, those that hold the public test key "snakeoil".
    public static func find(secureBoot: Bool) throws -> (code: String, variables: String) {
        let folder = "/usr/share/OVMF"
        let code = "\(folder)/\(secureBoot ? "OVMF_CODE_4M.secboot.fd" : "OVMF_CODE_4M.fd")"
        let variables = "\(folder)/\(secureBoot ? "OVMF_VARS_4M.snakeoil.fd" : "OVMF_VARS_4M.fd")"
        for path in [code, variables] where !FileSystem.exists(path) {
            throw BuildFailure("there is no \(path), the UEFI firmware for QEMU", hint: "apt-get install ovmf")
        }
        return (code, variables)
    }
}
