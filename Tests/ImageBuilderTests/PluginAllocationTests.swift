import Documents
import Files
@testable import ImageBuilder
import PluginKit
import Testing

/// What the plugins of an image allocate.
@Suite final class PluginAllocationTests {
    private let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-allocations") }

    deinit { try? FileSystem.remove(folder) }

    private func make(_ name: String, _ allocates: AllocationRequest) throws -> Definition.PluginChoice {
        let manifest = PluginManifest(
            name: name, version: "1", summary: "s", key: name, yang: "x.yang", resources: ["route"],
            allocates: allocates, features: [.init("base")])
        try FileSystem.makeDirectory("\(folder)/\(name)")
        for (file, text) in ["manifest.json": manifest.json.pretty, name: "#!/bin/sh\n", "x.yang": ""] {
            try FileSystem.replace("\(folder)/\(name)/\(file)", with: text, mode: 0o755)
        }
        let reference = Located(
            value: "\(folder)/\(name)", position: SourcePosition(file: "i.yaml", line: 7, column: 3),
            path: "plugins[\(name)]")
        let allow = Located(value: manifest.granted, position: reference.position, path: reference.path)
        return Definition.PluginChoice(name: reference, features: nil, allow: allow)
    }

    @Test func pluginsThatTakeTheSameNumbersFailTheBuild() throws {
        let choices = [
            try make("vrf", .init(tables: ["customers": .fixed(100...250)])),
            try make("lines", .init(tables: ["lines": .count(4)])),
            try make("frr", .init(tables: ["peers": .fixed(250...252)])),
        ]
        let fine = try BuiltPlugin.find(Array(choices.prefix(2)), images: folder, box: folder)
        #expect(fine.map(\.manifest.name) == ["vrf", "lines"])
        let failure = thrown(InvalidDocument.self) {
            try BuiltPlugin.find(choices, images: self.folder, box: self.folder)
        }
        let problem = try #require(failure?.problems.first)
        #expect(problem.path == "plugins[frr]" && problem.message.contains("vrf takes 100 to 250 for customers"))
    }
}
