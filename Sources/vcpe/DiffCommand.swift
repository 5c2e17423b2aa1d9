import ArgumentParser
import Documents
import Files
import ImageBuilder

struct DiffCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff",
        abstract: "Compare two builds by package, file, owner, mode, capability and size.",
        discussion: """
            A build is given by its image (branch-office), its output folder (out/branch-office) or its manifest \
            (out/branch-office/branch-office.manifest). The command first compares files beside a manifest with the \
            digests in it.

              vcpe diff previous/branch-office branch-office
            """)

    @Argument(help: "The older build.")
    var old: String

    @Argument(help: "The newer build.")
    var new: String

    @OptionGroup var built: BuiltImageOptions

    @Flag(help: "Compare the manifests alone, without verifying the files beside them.")
    var manifestOnly = false

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let difference = try ManifestDifference(from: manifest(old), to: manifest(new))
        print(json ? difference.json.pretty : difference.text, terminator: "")
    }

    private func manifest(_ argument: String) throws -> Manifest {
        if FileSystem.isDirectory(argument) {
            let folder = argument.hasSuffix("/") ? String(argument.dropLast()) : argument
            return try image(FileSystem.name(of: folder), in: FileSystem.parent(of: folder) ?? ".")
        }
        if !FileSystem.exists(argument) { return try image(argument, in: built.output) }
        let manifest = try Manifest.read(argument)
        let (folder, name) = (FileSystem.parent(of: argument) ?? ".", FileSystem.name(of: argument))
        // A copy of a manifest alone has no outputs beside it.
        let hasOutputs = name.hasSuffix(".manifest") && FileSystem.exists("\(argument.dropLast(9)).raw")
        if hasOutputs, !manifestOnly { try BuiltImage.verify(manifest, in: folder, stem: String(name.dropLast(9))) }
        return manifest
    }

    private func image(_ name: String, in folder: String) throws -> Manifest {
        if manifestOnly {
            let stem = [name] + (built.profile.map { ["\(name)-\($0)"] } ?? [])
            let path = stem.map { "\(folder)/\(name)/\($0).manifest" }.last { FileSystem.exists($0) }
            if let path { return try Manifest.read(path) }
        }
        return try BuiltImage(name, profile: built.profile, output: folder).manifest
    }
}
