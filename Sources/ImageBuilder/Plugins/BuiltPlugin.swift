import Digests
import Documents
import Files
import Planning
import PluginKit

/// A plugin as it stands beside the box's executables: its manifest and its YANG module.
public struct BuiltPlugin: Sendable {
    public var manifest: PluginManifest
    /// Where the definition asks for it.
    var asked: Located<String>
    /// What lies in its folder.
    var files: [(name: String, bytes: [UInt8])]

    /// Of its files.
    var digest: Digest {
        SHA256.hash(files.map { SHA256.hash($0.bytes).hex + $0.name }.joined().utf8)
    }

    /// What the one executable of engine and plugins is linked against.
    private static let libraries = ["libc6", "libgcc-s1", "libmnl0", "libnftnl11", "libyaml-0-2"]

    /// Debian packages, as the definition would ask for them.
    var packages: [Located<String>] {
        (Self.libraries + manifest.features.flatMap(\.packages)).map(located)
    }

    /// Kernel modules, as a profile would ask for them.
    var modules: [Located<String>] { manifest.features.flatMap(\.modules).map(located) }

    private func located(_ value: String) -> Located<String> {
        Located(value: value, position: asked.position, path: asked.path)
    }

    /// The plugins that a definition names.
    static func find(_ names: [Located<String>], box: String) throws -> [BuiltPlugin] {
        let folder = "\(box)/plugins"
        let problems = ProblemList()
        let found = try names.compactMap { name -> BuiltPlugin? in
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
            return BuiltPlugin(
                manifest: try PluginManifest.read("\(place)/manifest.json"), asked: name, files: files)
        }
        problems.checkUnique(names, "plugin") { $0 }
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
            for feature in plugin.manifest.features {
                users.merge(feature.users) { mine, _ in mine }
            }
        }
    }
}
