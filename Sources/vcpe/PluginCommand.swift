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
            A plugin is a folder with manifest.json, the program NAME, a YANG module, README.md, cases/ and examples/.
            To add it to an image, list the folder under plugins: in the definition. docs/plugins.md is the contract.

              vcpe plugin new hello
              vcpe plugin describe Examples/plugins/port-knock
            """, subcommands: [New.self, Test.self, Describe.self])

    struct New: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write a plugin's skeleton in Swift, Python or shell, which passes its test.",
            discussion: """
                  vcpe plugin new hello
                  make -C hello            builds hello/hello; a plugin in Python or shell is not built
                  vcpe plugin test hello
                  vcpe plugin new --language python hello

                Exit codes: 0 done, 1 failed: nothing is written.
                """)

        @Argument(help: "The plugin's name: lower-case letters, digits and hyphens.")
        var name: String

        @Option(help: "swift, python (3), or shell (POSIX, with jq).")
        var language = PluginSkeleton.Language.swift

        @Option(
            help: ArgumentHelp(
                "The folder of vcpe's own package, which has PluginKit, for a plugin in Swift.", valueName: "folder"))
        var kit = "."

        func run() throws {
            let kit = try FileSystem.realPath(self.kit)
            guard language != .swift || FileSystem.exists("\(kit)/Sources/PluginKit") else {
                throw BuildFailure("\(kit) is not vcpe's package: it has no Sources/PluginKit", hint: "--kit FOLDER")
            }
            let files = try PluginSkeleton(name: name, language: language, kit: kit).write(to: name)
            for file in files { print("\(name)/\(file)") }
            print("next: \(language == .swift ? "make -C \(name), then " : "")vcpe plugin test \(name)")
        }
    }

    struct Test: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Run a plugin's cases, and check its manifest and its examples.",
            discussion: """
                Runs each case in cases/ three times, once with another environment. The answers must equal the
                recorded ones, and be the same each time. The plugin must accept the documents that the YANG module
                accepts (README.md, examples/good-*.yaml), and refuse those that it refuses (examples/bad-*.yaml).
                The plugin runs in the sandbox of a build, with this host's /usr: it sees the files that its
                manifest lists, and neither this host's other files nor its network.

                  vcpe plugin test hello

                Exit codes: 0 everything passed, 1 something differs: every difference is printed.
                """)

        @Argument(help: "The plugin's folder.")
        var folder: String

        @Option(help: "A program to run instead of the folder's own.")
        var program: String?

        @Option(help: ArgumentHelp("A folder with YANG modules that the plugin's module imports.", valueName: "folder"))
        var modules: [String] = []

        @Flag(help: "Overwrite the recorded answers with the new ones; review the diff.")
        var write = false

        func run() throws {
            try PluginCommand.run(folder, program) { try check($0, $1) }
        }

        private func check(_ manifest: PluginManifest, _ runner: PluginRunner) throws {
            var otherHost = runner
            otherHost.environment = [
                "TZ": "Pacific/Auckland", "LC_ALL": "C", "HOME": "/nonexistent", "LANG": "de_DE.UTF-8",
            ]
            let check = PluginCheck(
                folder: folder, manifest: manifest, modules: modules, answer: runner.lines,
                answerInOtherEnvironment: otherHost.lines)
            var findings = check.checkManifest(try runner.describe())
            let cases = try check.runCases(writes: write)
            let examples = try check.checkExamples()
            findings += cases.findings + examples.findings
            for finding in findings { print(finding) }
            for kind in manifest.foreignKinds {
                let meant = didYouMean(kind, among: ResourceTypes.kinds).map { "; did you mean \($0)?" } ?? ""
                print("note: another plugin of the image must drive the kind \"\(kind)\"\(meant)")
            }
            print(
                "\(manifest.name): \(cases.answers) answers, \(examples.examples) examples, \(findings.count) findings")
            if !findings.isEmpty { throw ExitCode(1) }
        }
    }

    struct Describe: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print a plugin's version, features, commands, requirements and what it can do to a box.",
            discussion: """
                A definition that has the plugin of a third party repeats what it can do: --allow prints that.

                  vcpe plugin describe Examples/plugins/port-knock
                  vcpe plugin describe --allow Examples/plugins/port-knock
                """)

        @Argument(help: "The plugin's folder.")
        var folder: String

        @Option(help: "A program to run instead of the folder's own.")
        var program: String?

        @Flag(help: "Print the manifest as JSON.")
        var json = false

        @Flag(help: "Print what the plugin may have, as the item of a definition's plugins.")
        var allow = false

        func run() throws {
            let manifest = try PluginCommand.run(folder, program) { try $1.describe() }
            if allow {
                let item: JSON = ["plugins": [["path": .text(folder), "allow": manifest.granted.json]]]
                if json { return print(item.pretty, terminator: "") }
                return print(AllowedPermissions.yaml(path: folder, manifest.granted), terminator: "")
            }
            if json { return print(manifest.json.pretty, terminator: "") }
            func row(_ key: String, _ value: String) {
                if !value.isEmpty { print(key + String(repeating: " ", count: max(1, 12 - key.count)) + value) }
            }
            row("name", manifest.name)
            row("version", manifest.version)
            row("contract", manifest.contracts.map(String.init).joined(separator: ", "))
            row("summary", manifest.summary)
            row("key", manifest.key)
            row("yang", manifest.yang)
            row("resources", manifest.resources.joined(separator: ", "))
            for driver in manifest.drivers {
                let times = "\(driver.deadline) s an answer, a look every \(driver.interval) s"
                row("driver", "\(driver.kind): \(driver.program), phase \(driver.phase.rawValue), \(times)")
            }
            for (kind, words) in manifest.allocates.words { row(kind, words) }
            for words in manifest.granted.words {
                row("can", words.hasPrefix("can ") ? String(words.dropFirst(4)) : words)
            }
            for feature in manifest.features {
                row("feature", feature.name)
                row("  packages", feature.packages.joined(separator: ", "))
                row("  modules", feature.modules.joined(separator: ", "))
                row("  users", feature.users.keys.sorted().joined(separator: ", "))
            }
            for command in manifest.commands {
                let words =
                    [manifest.name, command.name]
                    + command.arguments.map { $0.isOptional ? "[\($0.name)]" : $0.name.uppercased() }
                row("command", "vcpectl \(words.joined(separator: " ")): \(command.summary)")
            }
        }
    }

    /// Runs `body` with a plugin in a sandbox.
    private static func run<Result>(
        _ folder: String, _ program: String?, _ body: (PluginManifest, PluginRunner) throws -> Result
    ) throws -> Result {
        let plugin = try PluginOnHost(folder, program: program)
        return try withExtendedLifetime(plugin) {
            do {
                return try body(plugin.manifest, plugin.runner)
            } catch let error as SystemError where [EPERM, ENOSPC, EUSERS, EINVAL].contains(error.code) {
                throw BuildFailure(
                    "can't make a sandbox for the plugin \(plugin.manifest.name): \(error)",
                    hint: "run it as root, or allow user namespaces (user_namespaces(7))")
            }
        }
    }
}

extension PluginSkeleton.Language: ExpressibleByArgument {}
