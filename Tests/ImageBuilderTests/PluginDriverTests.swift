import Documents
import Files
@testable import ImageBuilder
import Planning
import PluginKit
import Testing

/// Plugins whose manifests declare drivers, in an image.
@Suite final class PluginDriverTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-drivers") }

    deinit { try? FileSystem.remove(folder) }

    private func reference(_ name: String) -> Located<String> {
        Located(
            value: "\(folder)/\(name)", position: SourcePosition(file: "i.yaml", line: 7, column: 3), path: "plugins[0]"
        )
    }

    /// - Parameter files: of the plugin's folder, by name, with their modes.
    private func make(
        _ name: String, drivers: [PluginManifest.Driver], resources: [String] = [], files: [String: UInt32] = [:]
    ) throws {
        let manifest = PluginManifest(
            name: name, version: "1", summary: "s", key: name, yang: "x.yang", resources: resources, drivers: drivers,
            features: [.init("base")])
        try FileSystem.makeDirectory("\(folder)/\(name)")
        try FileSystem.replace("\(folder)/\(name)/manifest.json", with: manifest.json.pretty)
        let all = files.merging([name: 0o755, "x.yang": 0o644]) { $1 }
        for (file, mode) in all {
            try FileSystem.replace("\(folder)/\(name)/\(file)", with: "#!/bin/sh\n", mode: mode)
        }
    }

    private func find(_ names: String...) throws -> [BuiltPlugin] {
        try BuiltPlugin.find(
            names.map { name in
                let reference = reference(name)
                let manifest = try PluginManifest.read("\(reference.value)/manifest.json")
                let allow = Located(value: manifest.granted, position: reference.position, path: reference.path)
                return Definition.PluginChoice(name: reference, features: nil, allow: allow)
            }, images: folder, box: folder)
    }

    @Test func aDriverOfThePluginsFolderIsRunOnTheBox() throws {
        let driver = PluginManifest.Driver(kind: "guest", program: "drive")
        try make("guests", drivers: [driver], resources: ["guest"], files: ["drive": 0o755])
        let plugin = try #require(try find("guests").first)
        #expect(plugin.files.map(\.name) == ["manifest.json", "x.yang", "drive"])
        #expect(plugin.files.map { plugin.mode(of: $0.name) } == [0o644, 0o644, 0o755])
        // The plugin's own program may be the driver.
        try make("both", drivers: [.init(kind: "both", program: "both")])
        let both = try #require(try find("both").first)
        #expect(both.files.map(\.name) == ["manifest.json", "x.yang"])
    }

    @Test func aDriverThatIsMissingIsAnErrorOfTheBuild() throws {
        try make("guests", drivers: [.init(kind: "guest", program: "drive")], files: ["drive": 0o644])
        let failure = thrown(InvalidDocument.self) { try find("guests") }
        #expect(
            failure?.problems.first?.message == "there is no program \(folder)/guests/drive",
            "\(String(describing: failure))")
        try make("guests", drivers: [.init(kind: "guest", program: "/usr/lib/vcpe/vcpe-guests")])
        let plugins = try find("guests")
        var tree = Tree()
        let missing = thrown(InvalidDocument.self) { try FactorySite.checkDrivers(plugins, in: tree, of: "i") }
        #expect(
            missing?.problems.first?.message
                == "the plugin guests drives the kind \"guest\" by /usr/lib/vcpe/vcpe-guests, which is not in the image"
        )
        let path = "usr/lib/vcpe/vcpe-guests"
        tree.addParents(of: path, origin: "test")
        tree[path] = TreeEntry(.file(Content("")), mode: 0o755, origin: "test")
        try FactorySite.checkDrivers(plugins, in: tree, of: "i")
    }

    @Test func kindsOfOneImageMustAgree() throws {
        try make("one", drivers: [.init(kind: "guest", program: "one")])
        try make("two", drivers: [.init(kind: "guest", program: "two")])
        try make("planner", drivers: [], resources: ["guest", "file"])
        #expect(try find("one", "planner").count == 2)
        let clash = thrown(InvalidDocument.self) { try find("one", "two") }
        #expect(
            clash?.problems.map(\.message) == ["the plugins one and two both drive the kind \"guest\""]
                && clash?.problems.first?.position.line == 7)
        let unknown = thrown(InvalidDocument.self) { try find("planner") }
        #expect(
            unknown?.problems.map(\.message) == ["the plugin planner plans the kind \"guest\", which no plugin drives"])
        try make("three", drivers: [.init(kind: "link", program: "three")])
        let builtIn = thrown(InvalidDocument.self) { try find("three") }
        #expect(builtIn?.problems.first?.path == "drivers[0].kind", "\(String(describing: builtIn))")
    }
}
