import ArgumentParser
import Disks
import Documents
import Files
import Glibc
import ImageBuilder

struct FlashCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flash",
        abstract: "Write a built image on a disk or a USB stick.",
        discussion: """
            All that is on the disk is lost. A disk that is mounted, in use or too small is refused. Only blocks that hold
            data are written; all of them are read back and compared. The disk gets identifiers of its own, so that a stick
            left in the box is never mistaken for its disk.
            """)

    @Argument(help: "The image's name.")
    var name: String

    @Option(help: ArgumentHelp("The disk, such as /dev/sdb.", valueName: "device"))
    var to: String

    @OptionGroup var built: BuiltImageOptions

    @Option(help: ArgumentHelp("A site document, which the box reads at its first start.", valueName: "file"))
    var site: String?

    @Flag(help: "The disk is removable and the box is to keep its data there all the same.")
    var removableData = false

    @Flag(help: "Don't ask.")
    var yes = false

    func run() throws {
        let image = try BuiltImage(name, profile: built.profile, output: built.output)
        let document = try site.map { path in
            let bytes = try FileSystem.read(path)
            _ = try YAML.read(bytes, file: path)
            return bytes
        }
        let device = try BlockDevice(to)
        var flash = try Flash(image, to: device, mayFormatRemovable: removableData)
        Console.error(
            "\(device.summary)\n\(image.raw), for \(image.profile), will be written there; all that is on it is lost.")
        if !yes {
            guard isatty(0) == 1 else { throw BuildFailure("nobody is there to ask", hint: "--yes, if you are sure") }
            print("Type the device's name (\(device.name)) to go on: ", terminator: "")
            fflush(nil)
            guard readLine() == device.name else { throw BuildFailure("not confirmed: nothing was written") }
        }
        let console = Console(json: false)
        try flash.run(site: document) { phase, done, total in
            console.progress("\(phase.rawValue): \(Size.text(done)) of \(Size.text(total))", isLast: done >= total)
        }
        Console.error("\(device.path) is ready: \(name) is on it, read back and compared")
    }
}
