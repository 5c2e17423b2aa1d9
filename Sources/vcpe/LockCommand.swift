import ArgumentParser
import ImageBuilder

struct LockCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lock",
        abstract: "Resolve an image's packages and write images/NAME.lock.",
        discussion: """
            apt resolves in a separate root: it reads only the mirror's address from this host, and changes nothing here.
            What the packages' maintainer scripts do is recorded in images/NAME.effects; docs/packages.md describes what
            that needs. Commit both files: a build uses only the packages and effects in them.

              vcpe lock branch-office
              vcpe lock branch-office --diff
            """)

    @Argument(help: "The image's name.")
    var name: String

    @OptionGroup var image: ImageOptions

    @Flag(help: "Show what would change, and write nothing.")
    var diff = false

    @Flag(
        help: """
            Events as JSON, one a line, on standard output; the last is "done", with what changed, or "failed".
            """)
    var json = false

    func run() async throws {
        var options = ImageBuild.Options()
        options.images = image.images
        options.mirror = image.mirror
        options.securityMirror = image.securityMirror
        let console = BuildConsole(json: json)
        do {
            let build = try ImageBuild(name, options: options) { console.show($0) }
            let changes = try await build.lock(write: !diff)
            if json { return console.done(changes.json) }
            if changes.lines.isEmpty { print("nothing changed") }
            for line in changes.lines { print(line) }
        } catch {
            console.failed(error)
            throw error
        }
    }
}
