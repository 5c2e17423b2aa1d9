import ArgumentParser
import ImageBuilder

struct LockCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lock",
        abstract: "Resolve an image's packages and write images/NAME.lock.",
        discussion: """
            apt resolves in a root of its own: nothing of this host is read or changed but the mirror's address, and no
            privilege is needed. The lock is sorted and meant to be committed; a build takes nothing that it doesn't name.
            """)

    @Argument(help: "The image's name.")
    var name: String

    @OptionGroup var image: ImageOptions

    @Flag(help: "Show what would change, and write nothing.")
    var diff = false

    func run() async throws {
        var options = ImageBuild.Options()
        options.images = image.images
        options.mirror = image.mirror
        options.securityMirror = image.securityMirror
        let console = Console(json: false)
        let build = try ImageBuild(name, options: options) { console.show($0) }
        let differences = try await build.lock(write: !diff)
        if differences.isEmpty { print("nothing changed") }
        for line in differences { print(line) }
    }
}
