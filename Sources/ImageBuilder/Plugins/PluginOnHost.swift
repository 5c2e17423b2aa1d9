import Files
import Glibc
import Planning
import PluginKit
import Processes

/// A plugin that runs on a build host without an image. Its sandbox is that of a build
/// (``FactorySite``), with the host's `/usr` in place of the image's packages.
public final class PluginOnHost {
    public let manifest: PluginManifest
    public let runner: PluginRunner
    private let folder: String

    /// Programs such as awk are links to `/etc/alternatives` (update-alternatives(1)).
    private static let alternatives = "etc/alternatives"
    /// The mount point of the plugins' folder.
    private static let place = "plugins"

    /// Copies the plugin as a box has it: the program, and the files that its manifest lists.
    ///
    /// - Parameters:
    ///   - source: the plugin's folder.
    ///   - program: the path of a program to run instead of the folder's own.
    public init(_ source: String, program: String? = nil) throws {
        guard FileSystem.exists("\(source)/manifest.json") else {
            throw BuildFailure(
                "\(source) is not a plugin's folder: it has no manifest.json", hint: "vcpe plugin new NAME makes one")
        }
        manifest = try PluginManifest.read("\(source)/manifest.json")
        try manifest.checkContract()
        let name = manifest.name
        let program = program ?? "\(source)/\(name)"
        guard access(program, X_OK) == 0 else {
            throw BuildFailure(
                "the program \(program) is missing or not executable",
                hint: "build it, or give another one by --program")
        }
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-plugin")
        var sandbox = Sandbox(tree: "\(folder)/tree", folders: [.init("/usr", at: "usr")])
        if FileSystem.exists("/\(Self.alternatives)") {
            sandbox.folders.append(.init("/\(Self.alternatives)", at: Self.alternatives))
        }
        sandbox.folders.append(.init("\(folder)/plugins", at: Self.place))
        runner = PluginRunner(name: name, program: "/\(Self.place)/\(name)/\(name)", in: sandbox)
        do {
            // The plugin runs as another user than this process.
            guard chmod(folder, 0o755) == 0 else { throw SystemError("chmod", folder) }
            for path in ["usr", Self.alternatives] { try FileSystem.makeDirectory("\(folder)/tree/\(path)") }
            let own = "\(folder)/plugins/\(name)"
            try FileSystem.makeDirectory(own)
            for file in ["manifest.json", manifest.yang] + manifest.files + manifest.driverFiles {
                guard FileSystem.exists("\(source)/\(file)") else {
                    throw BuildFailure(
                        "\(source)/manifest.json: found the file \(file), which is not in the folder",
                        hint: "add the file, or remove it from the manifest")
                }
                try FileSystem.replace("\(own)/\(file)", with: try FileSystem.read("\(source)/\(file)"), mode: 0o644)
            }
            try FileSystem.replace("\(own)/\(name)", with: try FileSystem.read(program), mode: 0o755)
        } catch {
            try? FileSystem.remove(folder)
            throw error
        }
    }

    deinit { try? FileSystem.remove(folder) }
}
