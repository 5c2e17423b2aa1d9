import ArgumentParser
import ImageBuilder

struct BuildCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "build",
        abstract: "Build an image from its lock.",
        discussion: """
            Leaves in out/NAME: NAME.raw (the disk, sparse), NAME.raw.zst, NAME.qcow2, NAME.efi (the UKI), NAME.root \
            (root file system and hash tree), NAME.manifest, NAME.spdx.json and NAME.report; for every hardware \
            profile but the first, NAME-PROFILE.… With a warm cache no network call is made. A step whose inputs \
            did not change is not run.
            """)

    @Argument(help: "The image's name.")
    var name: String

    @OptionGroup var image: ImageOptions

    @Option(help: "The folder of the outputs.")
    var output = "out"

    @Option(help: "The folder of the box's own executables.")
    var box = ".build/box"

    @Option(help: "Only this hardware profile.")
    var profile: String?

    @Flag(help: "Make what a release has: all hardware profiles, and the compressed outputs.")
    var release = false

    @Flag(help: "Relock first, all packages to their newest versions.")
    var update = false

    @Flag(
        help: """
            Move the packages that the mirror no longer has, and what they force. The lock of that is in
            OUTPUT/NAME/relocked; the committed one is not changed.
            """)
    var relockGone = false

    @Option(help: ArgumentHelp("A snapshot archive: the first state after the lock's dates.", valueName: "url"))
    var snapshot: String?

    @Flag(help: "Report why each step runs.")
    var explain = false

    @Flag(help: "Events as JSON, one a line, on standard output; the last is \"done\" or \"failed\".")
    var json = false

    func run() async throws {
        var options = ImageBuild.Options()
        options.images = image.images
        options.mirror = image.mirror
        options.securityMirror = image.securityMirror
        options.output = output
        options.box = box
        options.profile = profile
        options.release = release
        options.update = update
        options.relockGone = relockGone
        options.snapshot = snapshot
        let console = Console(json: json, explain: explain)
        do {
            let outputs = try await ImageBuild(name, options: options) { console.show($0) }.build()
            console.done(outputs)
        } catch {
            console.failed(error)
            throw error
        }
    }
}
