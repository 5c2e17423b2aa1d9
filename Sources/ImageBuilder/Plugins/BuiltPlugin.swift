import Digests
import Documents
import Files
import Glibc
import Planning
import PluginKit

/// A plugin for an image: its manifest, its YANG module and, for a third party's plugin, its
/// program.
public struct BuiltPlugin: Sendable {
    public var manifest: PluginManifest
    /// The definition's reference to the plugin.
    var reference: Located<String>
    /// The features that the image has.
    var features: [PluginManifest.Feature]
    /// The files of its folder on the box, without the program.
    var files: [(name: String, bytes: [UInt8])]
    /// The program; nil for the project's own plugins, which are part of the engine's executable.
    var program: [UInt8]?

    /// One of the project's own.
    var isOwn: Bool { program == nil }

    /// The mode of one of its files on the box: drivers are run.
    func mode(of file: String) -> mode_t { manifest.driverFiles.contains(file) ? 0o755 : 0o644 }

    /// The digest of its files.
    var digest: Digest {
        SHA256.hash(
            (files.map { SHA256.hash($0.bytes).hex + $0.name } + [program.map { SHA256.hash($0).hex } ?? ""]).joined()
                .utf8)
    }

    /// The packages of the libraries that the executable of engine and plugins is linked with.
    private static let libraries = ["libc6", "libgcc-s1", "libmnl0", "libnftnl11", "libyaml-0-2"]

    /// The Debian packages that the plugin needs, at the definition's reference.
    var packages: [Located<String>] {
        (Self.libraries + features.flatMap(\.packages)).map(located)
    }

    /// The kernel modules that the plugin needs, at the definition's reference.
    var modules: [Located<String>] { features.flatMap(\.modules).map(located) }

    private func located(_ value: String) -> Located<String> {
        Located(value: value, position: reference.position, path: reference.path)
    }

    /// Reads a plugin's own folder: `NAME`, its program; `manifest.json`; its YANG module.
    ///
    /// - Throws: ``InvalidDocument`` for a missing file, at the reference to the folder.
    public static func read(_ folder: String, reference: Located<String>) throws -> BuiltPlugin {
        func problem(_ message: String, _ hint: String) -> InvalidDocument {
            InvalidDocument([reference.problem(message, hint: hint)])
        }
        guard FileSystem.exists("\(folder)/manifest.json") else {
            throw problem(
                "\(folder) is not a plugin's folder: it has no manifest.json", "vcpe plugin new NAME creates one")
        }
        let manifest = try PluginManifest.read("\(folder)/manifest.json")
        let program = "\(folder)/\(manifest.name)"
        guard access(program, X_OK) == 0 else {
            throw problem("there is no program \(program)", "the program has the plugin's name, and is executable")
        }
        for driver in manifest.driverFiles where access("\(folder)/\(driver)", X_OK) != 0 {
            throw problem(
                "there is no program \(folder)/\(driver)", "the manifest's drivers name it, and it must be executable")
        }
        for name in [manifest.yang] + manifest.files where !FileSystem.exists("\(folder)/\(name)") {
            throw problem("there is no \(folder)/\(name)", "the manifest lists it")
        }
        try manifest.checkContract()
        let others = manifest.files.filter { !manifest.driverFiles.contains($0) }
        let files = try (["manifest.json", manifest.yang] + others + manifest.driverFiles).map {
            ($0, try FileSystem.read("\(folder)/\($0)"))
        }
        return BuiltPlugin(
            manifest: manifest, reference: reference, features: manifest.features, files: files,
            program: try FileSystem.read(program))
    }

    /// The plugin with only the features that the definition selects; the first feature is in every
    /// image.
    private func with(_ wanted: [Located<String>]?) throws -> BuiltPlugin {
        guard let wanted else { return self }
        let known = manifest.features.map(\.name)
        let problems = ProblemList()
        for feature in wanted where !known.contains(feature.value) {
            let meant = didYouMean(feature.value, among: known).map { "did you mean \($0)? " } ?? ""
            problems.add(
                feature.problem(
                    "the plugin \(manifest.name) has no feature \"\(feature.value)\"",
                    hint: meant + "its features are \(known.joined(separator: ", "))"))
        }
        try problems.throwIfAny()
        var plugin = self
        plugin.features = manifest.features.enumerated().filter { index, feature in
            index == 0 || wanted.contains { $0.value == feature.name }
        }.map(\.element)
        return plugin
    }

    /// Merges references to the same plugin: the features of all references are combined.
    private static func merged(_ choices: [Definition.PluginChoice]) -> [Definition.PluginChoice] {
        var result: [Definition.PluginChoice] = []
        for choice in choices {
            guard let index = result.firstIndex(where: { $0.name.value == choice.name.value }),
                let known = result[index].features, let more = choice.features
            else {
                result.append(choice)
                continue
            }
            result[index].features = known + more
        }
        return result
    }

    /// Finds the plugins of a definition: the project's own by name, others by folder, relative to
    /// the definition's folder.
    static func find(
        _ choices: [Definition.PluginChoice], images: String, box: String
    ) throws -> [BuiltPlugin] {
        let folder = "\(box)/plugins"
        let problems = ProblemList()
        let found = try merged(choices).compactMap { choice -> BuiltPlugin? in
            let name = choice.name
            if name.value.contains("/") {
                return try read(name.value.hasPrefix("/") ? name.value : "\(images)/\(name.value)", reference: name)
                    .with(choice.features)
            }
            let pluginFolder = "\(folder)/\(name.value)"
            guard FileSystem.exists("\(pluginFolder)/manifest.json") else {
                let known = ((try? FileSystem.list(folder)) ?? [])
                let meant = didYouMean(name.value, among: known).map { "did you mean \($0)? " } ?? ""
                problems.add(
                    name.problem(
                        "there is no plugin \"\(name.value)\" in \(folder)",
                        hint: known.isEmpty
                            ? "make box builds the plugins" : meant + "plugins are \(known.joined(separator: ", "))"))
                return nil
            }
            let files = try FileSystem.list(pluginFolder).map { ($0, try FileSystem.read("\(pluginFolder)/\($0)")) }
            let manifest = try PluginManifest.read("\(pluginFolder)/manifest.json")
            return try BuiltPlugin(manifest: manifest, reference: name, features: manifest.features, files: files)
                .with(choice.features)
        }
        problems.checkUnique(
            found.map { Located(value: $0.manifest.name, position: $0.reference.position, path: $0.reference.path) },
            "plugin"
        ) { $0 }
        try problems.throwIfAny()
        for plugin in found {
            let choice = choices.first { $0.name.value == plugin.reference.value && $0.allow != nil }
            for problem in AllowedPermissions.problems(of: plugin, allow: choice?.allow) { problems.add(problem) }
        }
        try problems.throwIfAny()
        // The engine of a box with such plugins would not start.
        for problem in PluginManifest.kindProblems(of: found.map(\.manifest)) {
            guard let plugin = found.first(where: { $0.manifest.name == problem.plugin }) else { continue }
            problems.add(plugin.reference.problem(problem.message, hint: problem.hint))
        }
        do {
            _ = try Allocation(of: found.map(\.manifest))
        } catch {
            guard let plugin = found.first(where: { $0.manifest.name == error.plugin }) else { throw error }
            problems.add(plugin.reference.problem(error.message, hint: error.hint))
        }
        try problems.throwIfAny()
        return found
    }
}

extension Definition {
    /// Adds the packages and users of plugins, as if they were in the definition.
    mutating func add(_ plugins: [BuiltPlugin]) {
        for plugin in plugins {
            for package in plugin.packages where !packages.contains(where: { $0.value == package.value }) {
                packages.append(package)
            }
            for feature in plugin.features {
                users.merge(feature.users) { mine, _ in mine }
            }
        }
    }
}
