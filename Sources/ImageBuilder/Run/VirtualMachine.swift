import Files
import Glibc

/// A QEMU machine that boots an image; `vcpe run`, `vcpe test` and the boot tests use the same one.
public struct VirtualMachine: Sendable {
    public enum Firmware: Sendable, Hashable {
        /// QEMU loads kernel, initramfs and command line itself. This takes half the time of a boot
        /// through UEFI, and tests neither the loader nor the UKI.
        case direct(kernel: String, initramfs: String, commandLine: String)
        /// OVMF with the given variable store, a file that the machine writes to.
        case uefi(variables: String, secureBoot: Bool)
    }

    /// How a disk is attached.
    public enum Bus: String, Sendable, Hashable, CaseIterable {
        case virtio, nvme, sata, usb
    }

    /// QEMU's names of network cards that a hardware profile can choose.
    public enum Card: String, Sendable, Hashable, CaseIterable {
        case virtio = "virtio-net-pci"
        case e1000
        case e1000e
        case rtl8139
        case vmxnet3
    }

    /// The devices of a kind of box: `machine:` of its hardware profile.
    public struct Hardware: Sendable, Hashable {
        /// How the box's own disk is attached.
        public var disk: Bus
        /// The card of each port.
        public var network: Card

        public init(disk: Bus = .virtio, network: Card = .virtio) {
            (self.disk, self.network) = (disk, network)
        }
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
            /// QEMU's own network, which needs no privilege. `forwards` are `tcp::8080-:80`.
            case user(forwards: [String], restricted: Bool)
            /// A link to another QEMU, which connects to the Unix socket at this path.
            case cable(socket: String)
            /// A TAP device that QEMU inherits as this descriptor.
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
    /// Indexes of `disks` in the order in which the firmware tries them; the order of `disks` when
    /// empty.
    public var bootOrder: [Int] = []
    /// MiB.
    public var memory = 512
    public var processors = 2
    public var accelerator = Accelerator.tcg
    /// Changes to disks are discarded when the machine ends.
    public var isSnapshot = false
    /// The file that QEMU writes the events of the virtio port `org.vcpe.events` to.
    public var events: String?
    /// The file of a site document that the box reads through QEMU's fw_cfg.
    public var site: String?
    public var extra: [String] = []

    public init(firmware: Firmware, disks: [Disk]) {
        self.firmware = firmware
        self.disks = disks
    }

    /// QEMU's arguments, without those of console and display.
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
            // With `-kernel` QEMU gives the kernel the first boot index.
            if case .direct = firmware {
                arguments += ["-device", device]
                continue
            }
            let bootIndex = (bootOrder.isEmpty ? Array(disks.indices) : bootOrder).firstIndex(of: i)
            arguments += ["-device", device + (bootIndex.map { ",bootindex=\($0)" } ?? "")]
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
            // Fixed slots: the ports keep their order whatever other devices the machine has.
            let slot = ",addr=0x\(String(0x10 + i, radix: 16))"
            arguments += [
                "-device", "\(network.card),netdev=net\(i)\(slot)" + (network.mac.map { ",mac=\($0)" } ?? ""),
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
