import Files
import Glibc
import ImageBuilder
import Planning
import PluginKit
import Plugins
import Testing

/// A plugin's folder as `vcpe plugin test` checks it: cases with what it answers, manifest,
/// examples against the YANG module.
///
/// `VCPE_WRITE_GOLDEN=1 swift test --filter GoldenTests` writes the answers anew; the difference is
/// what to read.
@Suite struct GoldenTests {
    static let repository = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    static let folder = repository + "/Sources/Plugins"

    struct Tested {
        let manifest: PluginManifest
        let check: PluginCheck

        init<P: Plugin>(_ folder: String, _ plugin: P.Type) throws {
            let answer: PluginCheck.Answer = { verb, input in
                switch verb {
                case "show": PluginProgram.command(P.self, .show, input)
                case "act": PluginProgram.command(P.self, .act, input)
                default: PluginProgram.answer(P.self, isPlan: verb == "plan", input)
                }
            }
            manifest = P.manifest
            // The box's executable, called by the plugin's name. Another process has another seed
            // of its hashes, and this one another home, time zone and locale.
            let executable = "\(GoldenTests.repository)/.build/debug/vcpe-box"
            try #require(FileSystem.exists(executable), "swift build --product vcpe-box")
            let call = ["-c", "exec -a \"$0\" \"$1\" \"$2\"", P.manifest.name, executable]
            var elsewhere = PluginRunner(name: P.manifest.name, command: ["bash"] + call)
            elsewhere.environment = [
                "TZ": "Pacific/Auckland", "LC_ALL": "C", "HOME": "/nonexistent", "LANG": "de_DE.UTF-8",
            ]
            check = PluginCheck(
                folder: "\(GoldenTests.folder)/\(folder)", manifest: P.manifest,
                modules: GoldenTests.plugins.map { "\(GoldenTests.folder)/\($0)" }, answer: answer,
                answerInOtherEnvironment: elsewhere.lines)
        }

        init(_ folder: String) throws {
            switch folder {
            case "Network": try self.init(folder, Network.self)
            case "Firewall": try self.init(folder, Firewall.self)
            case "NAT": try self.init(folder, NAT.self)
            case "System": try self.init(folder, System.self)
            case "Upgrade": try self.init(folder, Upgrade.self)
            default:
                try #require(folder == "LAN")
                try self.init(folder, LAN.self)
            }
        }
    }

    static let plugins = ["Network", "Firewall", "NAT", "LAN", "System", "Upgrade"]

    private var writes: Bool { getenv("VCPE_WRITE_GOLDEN") != nil }

    @Test(arguments: plugins) func casesGiveTheirLines(plugin: String) throws {
        let (answers, findings) = try Tested(plugin).check.runCases(writes: writes)
        #expect(answers >= 6)
        for finding in findings { Issue.record("\(finding)") }
    }

    /// What the engine reads of a line is all that the plugin wrote there.
    @Test(arguments: plugins) func linesAreReadAsTheyAreWritten(plugin: String) throws {
        let folder = "\(Self.folder)/\(plugin)/cases"
        var count = 0
        for name in try FileSystem.list(folder) where name.hasSuffix(".plan") {
            let text = String(decoding: try FileSystem.read("\(folder)/\(name)"), as: UTF8.self)
            for line in try text.split(separator: "\n").map({ try JSON.parse(String($0)) }) where line["kind"] != nil {
                var written = line.object ?? [:]
                written["at"] = nil
                #expect(try Resource(line).json == .object(written))
                count += 1
            }
        }
        #expect(count > 3)
    }

    @Test(arguments: plugins) func manifestFileSaysWhatThePluginSays(plugin: String) throws {
        let manifest = try Tested(plugin).manifest
        let path = "\(Self.folder)/\(plugin)/manifest.json"
        if writes { try FileSystem.replace(path, with: manifest.json.pretty) }
        for finding in try Tested(plugin).check.checkManifest(manifest) { Issue.record("\(finding)") }
        #expect(String(decoding: try FileSystem.read(path), as: UTF8.self) == manifest.json.pretty)
        let problems = ProblemList()
        let node = try YAML.read(try FileSystem.read(path), file: path)
        #expect(PluginManifest.shape.read(node, path: "", into: problems) == manifest, "\(problems.problems)")
    }

    /// What the module takes the plugin takes, and what the one refuses the other does.
    @Test(arguments: plugins) func pluginAndModuleAgree(plugin: String) throws {
        let (examples, findings) = try Tested(plugin).check.checkExamples()
        #expect(examples >= 8)
        for finding in findings { Issue.record("\(finding)") }
    }
}
