import ArgumentParser
import Documents
import ImageBuilder

/// For `make bench`: times any machine that acts as a branch office's gateway, this project's or
/// another one.
struct BootTimeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "boot-time",
        abstract: "Time a machine from power-on to its first forwarded packet.",
        discussion: """
            The machine connects a LAN (192.168.1.0/24, second port) to a WAN (203.0.113.0/24, first port). It must
            forward and masquerade with the WAN address 203.0.113.2 and the LAN address 192.168.1.1.

              vcpe boot-time --kernel vmlinuz --initramfs initrd.img --append console=ttyS0 \\
                  --disk disk.raw --scratch /tmp/boot-time
            """,
        shouldDisplay: false)

    @Option(help: "The kernel image.")
    var kernel: String

    @Option(help: "The initramfs image.")
    var initramfs: String

    @Option(help: "The kernel command line.")
    var append: String

    @Option(help: "The disk image; the machine writes to it.")
    var disk: String

    @Option(help: "A folder for the console log and the provider's files.")
    var scratch: String

    func run() throws {
        let seconds = try BootTime(
            kernel: kernel, initramfs: initramfs, commandLine: append, disk: disk, folder: scratch
        ).measure()
        print(JSON.object(["milliseconds": .integer(Int(seconds * 1000))]).line)
    }
}
