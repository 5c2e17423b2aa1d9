import ArgumentParser
import ImageBuilder

/// `vcpe lock` runs this command inside new namespaces; operators do not call it.
struct ReferenceRootCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reference-root", abstract: "Install packages in a reference root (internal).",
        discussion: """
            vcpe lock runs this command inside new namespaces:

              vcpe reference-root specification.json
            """,
        shouldDisplay: false)

    @Argument(help: "The specification's path.")
    var specification: String

    func run() throws { print(try ReferenceInstallation.run(specification)) }
}
