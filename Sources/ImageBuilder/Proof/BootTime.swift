import Addresses
import Files
import Glibc
import PluginKit
import Processes

/// Measures the time from a kernel's first console output to the first packet that its machine
/// forwards.
public struct BootTime {
    let kernel: String
    let initramfs: String
    let commandLine: String
    let disk: String
    let folder: String

    public init(kernel: String, initramfs: String, commandLine: String, disk: String, folder: String) {
        self.kernel = kernel
        self.initramfs = initramfs
        self.commandLine = commandLine
        self.disk = disk
        self.folder = folder
    }

    /// The addresses that the machine must have.
    private static let plan: [Resource] = [("wan", "203.0.113.2/24"), ("lan", "192.168.1.1/24")].compactMap {
        link, text in
        IPPrefix(text).map { Resource(AddressResource(link: link, $0)) }
    }

    /// - Returns: seconds.
    public func measure() throws -> Double {
        try FileSystem.makeDirectory(folder)
        let network = try ProofNetwork(plan: Self.plan, folder: folder)
        var machine = VirtualMachine(
            firmware: .direct(kernel: kernel, initramfs: initramfs, commandLine: commandLine),
            disks: [.init(path: disk)])
        machine.networks = [
            .init(.tap(descriptor: 3), mac: try network.side(.wan).boxMAC.description),
            .init(.tap(descriptor: 4), mac: try network.side(.lan).boxMAC.description),
        ]
        machine.memory = 1024
        machine.accelerator = try Accelerator.working(qemu: QEMU.find(), kernel: kernel, cache: .standard)
        try FileSystem.replace("\(folder)/console", with: "")
        let traffic = try ProbeTraffic(network)
        defer { traffic.stop() }
        let process = try Command(
            QEMU.find(), machine.arguments() + ["-display", "none", "-no-reboot", "-serial", "file:\(folder)/console"]
        ).start(output: File("\(folder)/qemu", O_WRONLY | O_CREAT | O_TRUNC), inheriting: network.taps)
        defer { process.kill() }
        // Measured from the kernel's first output: the time of firmware and loading is QEMU's.
        var begin: Double?
        let end = Clock.seconds + 120
        while Clock.seconds < end, process.poll() == nil {
            if begin == nil, try Size.of("\(folder)/console") > 0 { begin = Clock.seconds }
            if let begin, let first = traffic.now.firstForwarded { return first - begin }
            usleep(2000)
        }
        throw BuildFailure(
            "no packet was forwarded within 120 s", hint: "\(folder)/console")
    }
}
