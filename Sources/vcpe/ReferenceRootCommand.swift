import ArgumentParser
import ImageBuilder

/// Started by `vcpe lock` inside namespaces of its own; not for people.
struct ReferenceRootCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reference-root", abstract: "Install packages in a reference root (internal).",
        shouldDisplay: false)

    @Argument(help: "The specification's path.")
    var specification: String

    func run() throws { print(try ReferenceInstallation.run(specification)) }
}
