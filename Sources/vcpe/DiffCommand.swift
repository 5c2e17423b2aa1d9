import ArgumentParser
import Documents
import ImageBuilder

struct DiffCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff",
        abstract: "Compare two builds by package, file and size.",
        discussion: "A build is named by its manifest, such as out/branch-office/branch-office.manifest.")

    @Argument(help: "The older build's manifest.")
    var old: String

    @Argument(help: "The newer build's manifest.")
    var new: String

    @Flag(help: "As JSON.")
    var json = false

    func run() throws {
        let difference = try ManifestDifference(from: Manifest.read(old), to: Manifest.read(new))
        print(json ? difference.json.pretty : difference.text, terminator: "")
    }
}
