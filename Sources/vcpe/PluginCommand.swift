import ArgumentParser
import Documents
import Files
import Glibc
import ImageBuilder
import Planning
import PluginKit

struct PluginCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plugin", abstract: "Make, check and describe plugins.",
        discussion: """
            A plugin is a folder: manifest.json, its program NAME, its YANG module, README.md, cases/ and examples/. An image gets it
            by naming the folder among the definition's plugins. docs/plugins.md is the contract.
            """, subcommands: [New.self, Test.self, Describe.self])

    struct New: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write a plugin's skeleton: a Swift package that builds and passes its test.",
            discussion: """
                  vcpe plugin new hello
                  make -C hello            builds hello/hello
                  vcpe plugin test hello

                Exit codes: 0 done, 1 failed: nothing is written.
                """)

        @Argument(help: "The plugin's name: lower-case letters, digits and hyphens.")
        var name: String

        @Option(help: ArgumentHelp("The folder of vcpe's own package, which has PluginKit.", valueName: "folder"))
        var kit = "."

        func run() throws {
            let kit = try FileSystem.realPath(self.kit)
            guard FileSystem.exists("\(kit)/Sources/PluginKit") else {
                throw BuildFailure("\(kit) is not vcpe's package: it has no Sources/PluginKit", hint: "--kit names it")
            }
            let files = try PluginSkeleton(name: name, kit: kit).write(to: name)
            for file in files { print("\(name)/\(file)") }
            print("next: make -C \(name), then vcpe plugin test \(name)")
        }
    }

    struct Test: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Run a plugin's cases, and check its manifest and its examples.",
            discussion: """
                Each case in cases/ is run three times, once with another environment: what it answers must be what lies beside it, and
                the same each time. What the YANG module takes (README.md, examples/good-*.yaml) the plugin must take, and what the one
                refuses (examples/bad-*.yaml) the other must.

                Exit codes: 0 all is well, 1 not: every difference is shown.
                """)

        @Argument(help: "The plugin's folder.")
        var folder: String

        @Option(help: "Another program than the folder's own.")
        var program: String?

        @Option(help: ArgumentHelp("Where YANG modules that its own imports lie.", valueName: "folder"))
        var modules: [String] = []

        @Flag(help: "Write the cases' answers anew: read the difference.")
        var write = false

        func run() throws {
            let (manifest, runner) = try PluginCommand.open(folder, program)
            var elsewhere = runner
            elsewhere.environment = [
                "TZ": "Pacific/Auckland", "LC_ALL": "C", "HOME": "/nonexistent", "LANG": "de_DE.UTF-8",
            ]
            let check = PluginCheck(
                folder: folder, manifest: manifest, modules: modules, answer: runner.lines,
                answerElsewhere: elsewhere.lines)
            var findings = check.checkManifest(try runner.describe())
            let cases = try check.runCases(writes: write)
            let examples = try check.checkExamples()
            findings += cases.findings + examples.findings
            for finding in findings { print(finding) }
            print(
                "\(manifest.name): \(cases.answers) answers, \(examples.examples) examples, \(findings.count) findings")
            if !findings.isEmpty { throw ExitCode(1) }
        }
    }

    struct Describe: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Say what a plugin is, and what it needs.")

        @Argument(help: "The plugin's folder.")
        var folder: String

        @Option(help: "Another program than the folder's own.")
        var program: String?

        @Flag(help: "The manifest as JSON.")
        var json = false

        func run() throws {
            let (_, runner) = try PluginCommand.open(folder, program)
            let said = try runner.describe()
            if json { return print(said.json.pretty, terminator: "") }
            func row(_ key: String, _ value: String) {
                if !value.isEmpty { print(key + String(repeating: " ", count: max(1, 12 - key.count)) + value) }
            }
            row("name", said.name)
            row("version", said.version)
            row("contract", said.contracts.map(String.init).joined(separator: ", "))
            row("summary", said.summary)
            row("key", said.key)
            row("yang", said.yang)
            row("resources", said.resources.joined(separator: ", "))
            for feature in said.features {
                row("feature", feature.name)
                row("  packages", feature.packages.joined(separator: ", "))
                row("  modules", feature.modules.joined(separator: ", "))
                row("  users", feature.users.keys.sorted().joined(separator: ", "))
            }
            for command in said.commands {
                let words =
                    [said.name, command.name]
                    + command.arguments.map { $0.isOptional ? "[\($0.name)]" : $0.name.uppercased() }
                row("command", "vcpectl \(words.joined(separator: " ")): \(command.summary)")
            }
        }
    }

    private static func open(_ folder: String, _ program: String?) throws -> (PluginManifest, PluginRunner) {
        guard FileSystem.exists("\(folder)/manifest.json") else {
            throw BuildFailure(
                "\(folder) is no plugin's folder: it has no manifest.json", hint: "vcpe plugin new NAME makes one")
        }
        let manifest = try PluginManifest.read("\(folder)/manifest.json")
        try manifest.checkContract()
        let path = program ?? "\(folder)/\(manifest.name)"
        guard access(path, X_OK) == 0 else {
            throw BuildFailure("there is no program \(path)", hint: "build it, or name it by --program")
        }
        return (manifest, PluginRunner(name: manifest.name, command: [try FileSystem.realPath(path)]))
    }
}
