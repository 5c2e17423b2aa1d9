import Files
import Glibc
import Processes

/// How QEMU runs the guest's code.
public enum Accelerator: String, Sendable, CaseIterable {
    /// The processor's own virtualization, by /dev/kvm.
    case kvm
    /// Emulation in software: about ten times slower, and possible everywhere.
    case tcg

    /// QEMU's arguments.
    var arguments: [String] {
        switch self {
        case .kvm: ["-accel", "kvm", "-cpu", "host"]
        case .tcg: ["-accel", "tcg,thread=\(Self.threads)", "-cpu", "max"]
        }
    }

    /// QEMU 7's multi-threaded emulation can show a processor half of an instruction that another
    /// processor is rewriting, and the guest's kernel crashes. One thread is as fast here
    /// (`docs/decisions.md`).
    private static let threads: String = {
        let version = (try? Command(QEMU.find(), ["--version"]).run().text) ?? ""
        return version.contains("version 7.") ? "single" : "multi"
    }()

    /// Finds the accelerator that works on this host.
    ///
    /// /dev/kvm may exist and open, and KVM_CREATE_VM succeed, although no guest ever boots. So a
    /// kernel without a disk is booted once; it must reach its panic. Only a success is cached,
    /// until the host reboots. A busy host can cause a failure, so a failure is tried again.
    ///
    /// - Parameters:
    ///   - qemu: the path of QEMU.
    ///   - kernel: a kernel image to boot.
    ///   - device: KVM's device node.
    ///   - deadline: seconds that the kernel has to reach its panic.
    public static func working(
        qemu: String, kernel: String, cache: Cache, device: String = "/dev/kvm", deadline: Int = 10
    ) throws -> Accelerator {
        guard access(device, R_OK | W_OK) == 0 else { return .tcg }
        let boot = String(decoding: try File("/proc/sys/kernel/random/boot_id").read(36, at: 0), as: UTF8.self)
        let answer = "\(try cache.folder("accelerator"))/\(boot)"
        // Earlier versions of this program also cached failures: ignore any other contents.
        if let bytes = try? FileSystem.read(answer), bytes == Array(Accelerator.kvm.rawValue.utf8) { return .kvm }
        let result = try Command(
            "timeout",
            ["--signal=KILL", String(deadline), qemu, "-M", "q35"] + Accelerator.kvm.arguments + [
                "-m", "256", "-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio", "-kernel", kernel,
                "-append", "console=ttyS0 panic=-1",
            ]
        ).run()
        guard result.text.contains("Kernel panic") else { return .tcg }
        try FileSystem.replace(answer, with: Accelerator.kvm.rawValue)
        return .kvm
    }
}
