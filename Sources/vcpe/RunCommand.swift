import ArgumentParser
import Documents
import Files
import Glibc
import ImageBuilder
import Processes

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Boot a built image in QEMU.",
        discussion: """
            The console is this terminal: Ctrl-] h lists the keys, Ctrl-] x ends the machine. The WAN port is on QEMU's
            user network. The LAN port is a Unix socket, out/NAME/.run/NAME.lan, to which another QEMU connects with
              -netdev stream,id=lan,addr.type=unix,addr.path=out/NAME/.run/NAME.lan
            Disk and network cards are those of the hardware profile's "machine:". Secure Boot is on if the image is
            signed. Changes to the disk are discarded, unless --persist keeps them in a layer over the built disk; a new
            build discards the layer.

              vcpe run branch-office --site site.yaml --forward 8080:80
            """)

    @Argument(help: "The image's name.")
    var name: String

    @OptionGroup var built: BuiltImageOptions

    @Option(help: "The folder of the definitions.")
    var images = "images"

    @Option(help: ArgumentHelp("A site document for the box, as if read from a stick.", valueName: "file"))
    var site: String?

    @Option(help: "Memory in MiB.")
    var memory = 1024

    @Option(help: "The number of processors.")
    var cpus = 2

    @Option(
        name: .customLong("forward"),
        help: ArgumentHelp(
            "Forward a port of this host to the WAN port, HOST:BOX; may be repeated.", valueName: "ports"))
    var forwards: [String] = []

    @Flag(help: "Keep what the box writes.")
    var persist = false

    @Flag(help: "Boot the kernel directly, without UEFI and systemd-boot.")
    var direct = false

    @OptionGroup var acceleration: AcceleratorOptions

    func run() throws {
        let qemu = try QEMU.find()
        let image = try BuiltImage(name, profile: built.profile, output: built.output)
        let scratch = "\(image.folder)/.run"
        try FileSystem.makeDirectory(scratch)
        try lockMachine("\(scratch)/\(image.stem).lock")
        let hardware = try HardwareProfile.read(profile(image), folder: images).machine
        var machine = VirtualMachine(
            firmware: direct
                ? .direct(
                    kernel: try image.kernel(in: scratch), initramfs: image.initramfs,
                    commandLine: try image.commandLine())
                : try firmware(image),
            disks: [persist ? .init(path: try layer(image), format: "qcow2") : .init(path: image.raw)])
        machine.disks[0].bus = hardware.disk
        let card = hardware.network.rawValue
        let lan = "\(scratch)/\(image.stem).lan"
        try FileSystem.remove(lan)
        machine.networks = [
            .init(.user(forwards: try forwards.map(Self.forward), restricted: false), card: card),
            .init(.cable(socket: lan), card: card),
        ]
        machine.memory = memory
        machine.processors = cpus
        machine.isSnapshot = !persist
        if let site {
            guard FileSystem.exists(site) else {
                throw BuildFailure(
                    "--site: there is no file \(site)", hint: "give the path of a site document in YAML")
            }
            machine.site = site.map { $0 == "," ? ",," : String($0) }.joined()
        }
        machine.accelerator = try acceleration.choose(for: image, in: scratch)
        BuildConsole.error(
            "\(image.raw) with \(machine.accelerator.rawValue)\(machine.accelerator == .tcg ? " (emulation: slow)" : ""), "
                + "\(memory) MiB, \(cpus) processors\(persist ? "" : ", changes are discarded"); Ctrl-] h for help")
        let arguments =
            try machine.arguments() + ["-display", "none", "-serial", "mon:stdio", "-echr", "0x1d"]
        throw Command.become(qemu, arguments)
    }

    /// Allows one machine per image, because two would share the LAN port's socket. QEMU inherits
    /// the lock, so it is released when QEMU exits.
    private func lockMachine(_ path: String) throws {
        let lock = open(path, O_RDWR | O_CREAT, 0o644)
        guard lock >= 0, flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            throw BuildFailure("\(name) is running already", hint: "end that machine first (Ctrl-] x)")
        }
    }

    /// The layer that the box writes to. The built disk must not change, because `vcpe flash` may
    /// write it to other boxes.
    private func layer(_ image: BuiltImage) throws -> String {
        let path = "\(image.folder)/.run/\(image.stem).layer.qcow2"
        var (base, layer) = (stat(), stat())
        guard stat(image.raw, &base) == 0 else { throw SystemError("stat", image.raw) }
        if stat(path, &layer) == 0, layer.st_ctim.tv_sec >= base.st_ctim.tv_sec { return path }
        try Command(
            "qemu-img", ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "../\(image.stem).raw", path]
        ).check()
        return path
    }

    /// The profile that the image was built for, with the definition as its position for errors.
    private func profile(_ image: BuiltImage) -> Located<String> {
        let position = SourcePosition(file: "\(images)/\(name).yaml", line: 1, column: 1)
        return Located(value: image.profile, position: position, path: "profiles")
    }

    /// The firmware's variable store with its boot entries: a new one, unless --persist keeps it.
    private func firmware(_ image: BuiltImage) throws -> VirtualMachine.Firmware {
        let isSigned = PortableExecutable.isSigned(try FileSystem.read(image.uki))
        let path = "\(image.folder)/.run/\(image.stem)\(isSigned ? ".signed" : "").vars"
        if persist, FileSystem.exists(path) { return .uefi(variables: path, secureBoot: isSigned) }
        guard isSigned else { return try OVMF.makeVariables(path, certificate: nil) }
        guard let keys = try Definition.read("\(images)/\(name).yaml").secureBoot else {
            throw BuildFailure(
                "\(image.uki) is signed, and \(images)/\(name).yaml has no secure-boot.certificate",
                hint: "the definition that the image was built from: --images")
        }
        return try OVMF.makeVariables(path, certificate: "\(images)/\(keys.certificate.value)")
    }

    /// Converts `8080:80` to QEMU's notation. Checks that the port is free, because QEMU's own
    /// error has no hint.
    private static func forward(_ text: String) throws -> String {
        let ports = text.split(separator: ":").compactMap { UInt16($0) }
        guard ports.count == 2, text.split(separator: ":", omittingEmptySubsequences: false).count == 2 else {
            throw ValidationError("--forward \(text): allowed is HOST:BOX, two port numbers, such as 8080:80")
        }
        let probe = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(probe) }
        var on: Int32 = 1
        setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = ports[0].bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(probe, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard bound == 0 else {
            throw BuildFailure(
                "port \(ports[0]) of this host is not free: \(SystemError("bind", "127.0.0.1:\(ports[0])"))",
                hint: "another port: --forward \(ports[0] &+ 1):\(ports[1])")
        }
        return "tcp:127.0.0.1:\(ports[0])-:\(ports[1])"
    }
}
