import ArgumentParser
import ImageBuilder

struct BuildCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "build",
        abstract: "Build an image from its lock.",
        discussion: """
            Writes to out/NAME: NAME.raw (the disk, sparse), NAME.raw.zst, NAME.qcow2, NAME.efi (the UKI), NAME.root \
            (root file system and hash tree), NAME.manifest, NAME.spdx.json and NAME.report; for every hardware \
            profile but the first, NAME-PROFILE.… With a warm cache the build makes no network call. It skips steps \
            whose inputs did not change.

              vcpe build branch-office
              vcpe build branch-office --profile virtio --explain
              vcpe build branch-office --profile virtio --report
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

    @Flag(help: "Build what a release needs: all hardware profiles, and the compressed outputs.")
    var release = false

    @Flag(help: "Relock first, with the newest version of each package.")
    var update = false

    @Flag(
        help: """
            Update locked packages that the mirror no longer has, and others only as far as these require it.
            The new lock is OUTPUT/NAME/relocked; the committed lock is not changed.
            """)
    var relockGone = false

    @Option(
        help: ArgumentHelp(
            "A snapshot archive; the build uses its first state after the lock's dates.", valueName: "url"))
    var snapshot: String?

    @Flag(help: "Report why each step runs.")
    var explain = false

    @Flag(
        help: """
            Print the reports: sizes, what plugins may do, and what each service could do if it were taken over, \
            from 0 to 100 (docs/security.md).
            """)
    var report = false

    @Flag(help: "Print events as JSON, one per line, on standard output; the last is \"done\" or \"failed\".")
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
        let console = BuildConsole(json: json, explain: explain)
        do {
            let outputs = try await ImageBuild(name, options: options) { console.show($0) }.build()
            try console.done(outputs, reports: report ? outputs.filter { $0.hasSuffix(".report") } : [])
        } catch {
            console.failed(error)
            throw error
        }
    }
}
