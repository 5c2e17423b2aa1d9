import Files
import Glibc
import Processes

/// How QEMU runs the guest's code.
public enum Accelerator: String, Sendable {
    case kvm
    case tcg

    /// QEMU's arguments.
    var arguments: [String] {
        switch self {
        case .kvm: ["-accel", "kvm", "-cpu", "host"]
        case .tcg: ["-accel", "tcg,thread=\(Self.threads)", "-cpu", "max"]
        }
    }

    /// QEMU 7's emulation by several threads now and then shows a processor half of an instruction that another one is
    /// rewriting, and the guest's kernel dies of it. One thread takes no longer here (`docs/decisions.md`).
    private static let threads: String = {
        let version = (try? Command(QEMU.find(), ["--version"]).run().text) ?? ""
        return version.contains("version 7.") ? "single" : "multi"
    }()

    /// The one that works here.
    ///
    /// /dev/kvm may exist, open and even make a machine, and the guest still never get anywhere: so a kernel is started
    /// once, without a disk, which must come as far as its panic. The answer is kept for this boot of the host.
    ///
    /// - Parameter kernel: a kernel image to try.
    public static func working(qemu: String, kernel: String, cache: Cache) throws -> Accelerator {
        guard access("/dev/kvm", R_OK | W_OK) == 0 else { return .tcg }
        let boot = String(decoding: try File("/proc/sys/kernel/random/boot_id").read(36, at: 0), as: UTF8.self)
        let answer = "\(try cache.folder("accelerator"))/\(boot)"
        if let bytes = try? FileSystem.read(answer),
            let known = Accelerator(rawValue: String(decoding: bytes, as: UTF8.self))
        {
            return known
        }
        let result = try Command(
            "timeout",
            ["--signal=KILL", "10", qemu, "-M", "q35"] + Accelerator.kvm.arguments + [
                "-m", "256", "-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio", "-kernel", kernel,
                "-append", "console=ttyS0 panic=-1",
            ]
        ).run()
        let works = result.text.contains("Kernel panic") ? Accelerator.kvm : .tcg
        try FileSystem.replace(answer, with: works.rawValue)
        return works
    }
}
