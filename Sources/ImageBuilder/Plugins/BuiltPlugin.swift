import Digests
import Documents
import Files
import Glibc
import Planning
import PluginKit

/// A plugin as an image gets it: its manifest and its YANG module, and its program where it is none of ours.
public struct BuiltPlugin: Sendable {
    public var manifest: PluginManifest
    /// Where the definition asks for it.
    var asked: Located<String>
    /// Those of its features that the image has.
    var features: [PluginManifest.Feature]
    /// What lies in its folder on the box, beside the program.
    var files: [(name: String, bytes: [UInt8])]
    /// The program; nil for one of ours, which are one executable with the engine.
    var program: [UInt8]?

    /// Of its files.
    var digest: Digest {
        SHA256.hash(
            (files.map { SHA256.hash($0.bytes).hex + $0.name } + [program.map { SHA256.hash($0).hex } ?? ""]).joined()
                .utf8)
    }

    /// What the one executable of engine and plugins is linked against.
    private static let libraries = ["libc6", "libgcc-s1", "libmnl0", "libnftnl11", "libyaml-0-2"]

    /// Debian packages, as the definition would ask for them.
    var packages: [Located<String>] {
        (Self.libraries + features.flatMap(\.packages)).map(located)
    }

    /// Kernel modules, as a profile would ask for them.
    var modules: [Located<String>] { features.flatMap(\.modules).map(located) }

    private func located(_ value: String) -> Located<String> {
        Located(value: value, position: asked.position, path: asked.path)
    }

    /// Reads a plugin's own folder: `NAME`, its program; `manifest.json`; its YANG module.
    ///
    /// - Throws: for what is missing there, at the place that names the folder.
    public static func read(_ folder: String, asked: Located<String>) throws -> BuiltPlugin {
        func problem(_ message: String, _ hint: String) -> InvalidDocument {
            InvalidDocument([asked.problem(message, hint: hint)])
        }
        guard FileSystem.exists("\(folder)/manifest.json") else {
            throw problem("\(folder) is no plugin's folder: it has no manifest.json", "vcpe plugin new NAME makes one")
        }
        let manifest = try PluginManifest.read("\(folder)/manifest.json")
        let program = "\(folder)/\(manifest.name)"
        guard access(program, X_OK) == 0 else {
            throw problem("there is no program \(program)", "the program is named like the plugin, and executable")
        }
        for name in [manifest.yang] + manifest.files where !FileSystem.exists("\(folder)/\(name)") {
            throw problem("there is no \(folder)/\(name)", "the manifest names it")
        }
        try manifest.checkContract()
        let files = try (["manifest.json", manifest.yang] + manifest.files).map {
            ($0, try FileSystem.read("\(folder)/\($0)"))
        }
        return BuiltPlugin(
            manifest: manifest, asked: asked, features: manifest.features, files: files,
            program: try FileSystem.read(program))
    }

    /// With no more of its features than the definition wants; the first one is in every image.
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

    /// Each plugin once: what further places say of its features comes on top.
    private static func merged(_ choices: [Definition.PluginChoice]) -> [Definition.PluginChoice] {
        var result: [Definition.PluginChoice] = []
        for choice in choices {
            guard let place = result.firstIndex(where: { $0.name.value == choice.name.value }),
                let known = result[place].features, let more = choice.features
            else {
                result.append(choice)
                continue
            }
            result[place].features = known + more
        }
        return result
    }

    /// The plugins that a definition names: ours by their names, others by their folders, relative to the definition's.
    static func find(
        _ choices: [Definition.PluginChoice], images: String, box: String
    ) throws -> [BuiltPlugin] {
        let folder = "\(box)/plugins"
        let problems = ProblemList()
        let found = try merged(choices).compactMap { choice -> BuiltPlugin? in
            let name = choice.name
            if name.value.contains("/") {
                return try read(name.value.hasPrefix("/") ? name.value : "\(images)/\(name.value)", asked: name)
                    .with(choice.features)
            }
            let place = "\(folder)/\(name.value)"
            guard FileSystem.exists("\(place)/manifest.json") else {
                let known = ((try? FileSystem.list(folder)) ?? [])
                let meant = didYouMean(name.value, among: known).map { "did you mean \($0)? " } ?? ""
                problems.add(
                    name.problem(
                        "there is no plugin \"\(name.value)\" in \(folder)",
                        hint: known.isEmpty
                            ? "make box, which builds them" : meant + "plugins are \(known.joined(separator: ", "))"))
                return nil
            }
            let files = try FileSystem.list(place).map { ($0, try FileSystem.read("\(place)/\($0)")) }
            let manifest = try PluginManifest.read("\(place)/manifest.json")
            return try BuiltPlugin(manifest: manifest, asked: name, features: manifest.features, files: files)
                .with(choice.features)
        }
        problems.checkUnique(
            found.map { Located(value: $0.manifest.name, position: $0.asked.position, path: $0.asked.path) }, "plugin"
        ) { $0 }
        try problems.throwIfAny()
        return found
    }
}

extension Definition {
    /// Adds what plugins need, as if the definition had asked for it.
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
