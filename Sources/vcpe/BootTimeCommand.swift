import ArgumentParser
import Documents
import ImageBuilder

/// For `make bench`: any machine that plays the branch office, ours or a peer's, timed to its first forwarded packet.
struct BootTimeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "boot-time",
        abstract: "Time a machine from power-on to its first forwarded packet.",
        discussion: """
            The machine stands between a LAN (192.168.1.0/24, second port) and a WAN (203.0.113.0/24, first port) and must forward and
            masquerade: its WAN address is 203.0.113.2, its LAN address 192.168.1.1.
            """,
        shouldDisplay: false)

    @Option(help: "The kernel's file.")
    var kernel: String

    @Option(help: "The initramfs's file.")
    var initramfs: String

    @Option(help: "The kernel's command line.")
    var append: String

    @Option(help: "The disk's file; it is written to.")
    var disk: String

    @Option(help: "A folder for what is written on the way.")
    var scratch: String

    func run() throws {
        let seconds = try BootTime(
            kernel: kernel, initramfs: initramfs, commandLine: append, disk: disk, folder: scratch
        ).measure()
        print(JSON.object(["milliseconds": .integer(Int(seconds * 1000))]).line)
    }
}
