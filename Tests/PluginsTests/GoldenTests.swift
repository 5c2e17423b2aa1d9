import Files
import Glibc
import PluginKit
import Plugins
import Processes
import Testing

/// A plugin's cases are files: its input as YAML, what it publishes and plans as lines beside it.
///
/// `VCPE_WRITE_GOLDEN=1 swift test --filter GoldenTests` writes the lines anew; the difference is what to read.
@Suite struct GoldenTests {
    static let folder = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/") + "/Sources/Plugins"

    struct Tested: Sendable, CustomTestStringConvertible {
        let folder: String
        let manifest: PluginManifest
        let answer: @Sendable (Bool, JSON) -> [String]

        var testDescription: String { manifest.name }
    }

    static let plugins = [
        Tested(folder: "Network", manifest: Network.manifest) { PluginProgram.answer(Network.self, isPlan: $0, $1) },
        Tested(folder: "Firewall", manifest: Firewall.manifest) { PluginProgram.answer(Firewall.self, isPlan: $0, $1) },
        Tested(folder: "NAT", manifest: NAT.manifest) { PluginProgram.answer(NAT.self, isPlan: $0, $1) },
        Tested(folder: "LAN", manifest: LAN.manifest) { PluginProgram.answer(LAN.self, isPlan: $0, $1) },
    ]

    private var writes: Bool { getenv("VCPE_WRITE_GOLDEN") != nil }

    private func compare(_ text: String, with path: String) throws {
        if writes { return try FileSystem.replace(path, with: text) }
        let golden = String(decoding: try FileSystem.read(path), as: UTF8.self)
        #expect(text == golden, "\(path): VCPE_WRITE_GOLDEN=1 writes it anew")
    }

    @Test(arguments: plugins) func casesGiveTheirLines(plugin: Tested) throws {
        let folder = "\(Self.folder)/\(plugin.folder)/cases"
        let cases = try FileSystem.list(folder).filter { $0.hasSuffix(".yaml") }
        #expect(cases.count >= 3)
        for file in cases {
            let stem = "\(folder)/\(file.dropLast(5))"
            let input = JSON(try YAML.read(try FileSystem.read("\(folder)/\(file)"), file: file))
            for (verb, isPlan) in [("publish", false), ("plan", true)] {
                let lines = plugin.answer(isPlan, input)
                try compare(lines.map { $0 + "\n" }.joined(), with: "\(stem).\(verb)")
                #expect(lines == plugin.answer(isPlan, input))
                // What is planned is read again as it was meant.
                for line in lines where isPlan && !line.contains("\"diagnostic\"") {
                    #expect(try Resource(try JSON.parse(line)).json.line == line)
                }
            }
        }
    }

    @Test(arguments: plugins) func manifestFileSaysWhatThePluginSays(plugin: Tested) throws {
        let path = "\(Self.folder)/\(plugin.folder)/manifest.json"
        try compare(plugin.manifest.json.pretty, with: path)
        let problems = ProblemList()
        let node = try YAML.read(try FileSystem.read(path), file: path)
        #expect(PluginManifest.shape.read(node, path: "", into: problems) == plugin.manifest, "\(problems.problems)")
    }

    /// As RFC 7951 has it: the example of a plugin's page is data of its YANG module, and what the plugin can't read
    /// mostly isn't.
    @Test(arguments: plugins) func exampleSatisfiesTheYANGModule(plugin: Tested) throws {
        let scratch = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-yang")
        defer { try? FileSystem.remove(scratch) }
        let page = String(
            decoding: try FileSystem.read("\(Self.folder)/\(plugin.folder)/README.md"), as: UTF8.self)
        let start = try #require(page.firstRange(of: "```yaml\n"))
        let example = page[start.upperBound...].prefix(
            upTo: try #require(page[start.upperBound...].firstRange(of: "```")).lowerBound)
        let site = JSON(try YAML.read(Array(example.utf8), file: "README.md"))
        let configuration = try #require(site[plugin.manifest.key])
        func yanglint(_ configuration: JSON) throws -> Command.Result {
            let module = plugin.manifest.yang.split(separator: ".")[0]
            let data = JSON.object(["\(module):\(plugin.manifest.key)": configuration])
            try FileSystem.replace("\(scratch)/data.json", with: data.line)
            let modules = Self.plugins.map { "\(Self.folder)/\($0.folder)" }.flatMap { ["-p", $0] }
            return try Command(
                "yanglint",
                modules + [
                    "-t", "config", "\(Self.folder)/\(plugin.folder)/\(plugin.manifest.yang)", "\(scratch)/data.json",
                ]
            ).run()
        }
        let result = try yanglint(configuration)
        #expect(result.status == 0, "\(result.errorText)")
        let problems = plugin.answer(false, ["configuration": configuration]).filter { $0.contains("\"diagnostic\"") }
        #expect(problems == [])
        let wrong = JSON(
            try YAML.read(
                try FileSystem.read("\(Self.folder)/\(plugin.folder)/cases/unreadable.yaml"), file: "unreadable.yaml"))
        #expect(try yanglint(wrong["configuration"] ?? .null).status != 0)
    }
}
