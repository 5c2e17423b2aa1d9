import ArgumentParser
import Disks
import Documents
import Files
import Glibc
import ImageBuilder

struct FlashCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flash",
        abstract: "Write a built image onto a disk or a USB stick.",
        discussion: """
            All data on the disk is lost. The command refuses a disk that is mounted, in use or too small. It first \
            compares the image's files with the digests in its manifest. It writes only blocks that contain data, \
            reads all of them back and compares them. The disk gets its own identifiers, so that the box never \
            mistakes a stick that is left in it for its disk. Disks with sectors of 512 and of 4096 bytes work.

              vcpe flash branch-office --to /dev/sdb --site site.yaml
            """)

    @Argument(help: "The image's name.")
    var name: String

    @Option(help: ArgumentHelp("The disk, such as /dev/sdb.", valueName: "device"))
    var to: String

    @OptionGroup var built: BuiltImageOptions

    @Option(
        help: ArgumentHelp(
            "A site document, which the box reads at its first boot; checked as \"vcpe site check\" does. Its "
                + "signature, FILE.sig, goes with it where there is one.",
            valueName: "file"))
    var site: String?

    @Flag(help: "Write the site document without checking it, for hosts that lack the image's definition.")
    var uncheckedSite = false

    @OptionGroup var definition: ImageOptions

    @Option(help: "The folder of the box's own executables, for the check of --site.")
    var box = ".build/box"

    @Flag(help: "Let the box keep its data on this disk although it is removable.")
    var removableData = false

    @Flag(help: "Write without a confirmation.")
    var yes = false

    func run() async throws {
        // Check the disk first, because verifying the image takes longer.
        let device = try BlockDevice(to)
        let image = try BuiltImage(name, profile: built.profile, output: built.output)
        let document = try await siteDocument(for: image)
        var flash = try Flash(image, to: device, mayFormatRemovable: removableData)
        BuildConsole.error(
            "\(device.summary)\n\(image.raw), for \(image.profile), will be written there; all data on it is lost.")
        if !yes {
            guard isatty(0) == 1 else {
                throw BuildFailure("there is no terminal for a confirmation", hint: "--yes, if you are sure")
            }
            print("Type the device's name (\(device.name)) to continue: ", terminator: "")
            fflush(nil)
            guard readLine() == device.name else { throw BuildFailure("not confirmed: nothing was written") }
        }
        let console = BuildConsole(json: false)
        let signature = try site.flatMap { FileSystem.exists("\($0).sig") ? try FileSystem.read("\($0).sig") : nil }
        try flash.run(site: document, signature: signature) { phase, done, total in
            console.progress("\(phase.rawValue): \(Size.text(done)) of \(Size.text(total))", isLast: done >= total)
        }
        BuildConsole.error("\(device.path): \(name) is written, read back and compared")
    }

    /// The bytes of --site, checked against the image.
    private func siteDocument(for image: BuiltImage) async throws -> [UInt8]? {
        guard let site else { return nil }
        let bytes = try FileSystem.read(site)
        _ = try YAML.read(bytes, file: site)
        if uncheckedSite { return bytes }
        guard FileSystem.exists("\(definition.images)/\(name).yaml") else {
            throw BuildFailure(
                "\(site) can't be checked: \(definition.images)/\(name).yaml does not exist",
                hint: "--images FOLDER; or --unchecked-site after \"vcpe site check\" elsewhere")
        }
        var options = ImageBuild.Options()
        options.images = definition.images
        options.mirror = definition.mirror
        options.securityMirror = definition.securityMirror
        options.profile = image.profile
        options.box = box
        let build = try ImageBuild(name, options: options) { event in
            if case .remark(let text) = event { BuildConsole.error(text) }
        }
        // The plugins of another release may accept other documents.
        guard build.version == image.manifest.version else {
            throw BuildFailure(
                "\(site) can't be checked: \(image.raw) is \(name) \(image.manifest.version), "
                    + "\(definition.images)/\(name).yaml is \(build.version)",
                hint: "vcpe build \(name), or --unchecked-site")
        }
        for remark in (try await build.check(site: site)).warnings { BuildConsole.error(remark) }
        return bytes
    }
}
