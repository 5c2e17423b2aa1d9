import Documents
import Files
import Planning
import PluginKit

/// A template of a plugin, which builds and passes its tests without changes.
public struct PluginSkeleton {
    /// The language of the program.
    public enum Language: String, CaseIterable, Sendable {
        case swift, python, shell
    }

    let name: String
    let language: Language
    /// The path of vcpe's own package, for a plugin in Swift.
    let kit: String

    /// - Throws: ``BuildFailure`` for an invalid name.
    public init(name: String, language: Language, kit: String) throws {
        guard let first = name.utf8.first, (0x61...0x7A).contains(first), name.utf8.count <= 30,
            name.utf8.allSatisfy({ (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D })
        else {
            throw BuildFailure(
                "\"\(name)\" is not a valid plugin name",
                hint: "allowed are at most 30 lower-case letters, digits and hyphens, a letter first")
        }
        if let objection = ForeignPlugins.objection(toName: name, isOwn: false) {
            throw BuildFailure("\(objection)", hint: "vcpe plugin new OTHER")
        }
        (self.name, self.language, self.kit) = (name, language, kit)
    }

    /// The Swift type's name.
    private var type: String {
        name.split(separator: "-").map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
    }

    /// Writes all files, or none.
    ///
    /// - Returns: their paths within the folder.
    public func write(to folder: String) throws -> [String] {
        guard !FileSystem.exists(folder) else {
            throw BuildFailure("\(folder) already exists", hint: "give another name or folder")
        }
        let temporary = "\(folder).new"
        try FileSystem.remove(temporary)
        do {
            for (path, text) in files {
                try FileSystem.makeDirectory(FileSystem.parent(of: "\(temporary)/\(path)") ?? temporary)
                let isProgram = text.hasPrefix("#!")
                try FileSystem.replace("\(temporary)/\(path)", with: text, mode: isProgram ? 0o755 : 0o644)
            }
            try FileSystem.rename(temporary, to: folder)
        } catch {
            try? FileSystem.remove(temporary)
            throw error
        }
        return files.map(\.0)
    }

    private var manifest: PluginManifest {
        let packages =
            switch language {
            case .swift: [String]()
            case .python: ["python3"]
            case .shell: ["dash", "jq"]
            }
        return PluginManifest(
            name: name, version: "0.1.0", summary: "Writes a greeting to a file", key: name, yang: "vcpe-\(name).yang",
            files: language == .shell ? ["\(name).jq"] : [], resources: ["directory", "file"],
            features: [.init("base", packages: packages)],
            commands: [.init(.show, "greeting", "The contents of the file")])
    }

    private var input: JSON {
        ["configuration": ["greeting": "hello"], "facts": [:], "now": 1_795_000_000]
    }

    private var files: [(String, String)] {
        let path = "/run/vcpe/\(name)"
        let resources: [Resource] = [
            Resource(DirectoryResource(path: path, owner: "root", mode: 0o755)),
            Resource(FileResource(path: "\(path)/greeting", content: "hello\n", owner: "root", mode: 0o644)),
        ]
        let program =
            switch language {
            case .swift:
                [
                    ("Package.swift", package), ("Makefile", makefile),
                    (".gitignore", ".build\nPackage.resolved\n/\(name)\n"),
                    ("Sources/\(name)/\(type).swift", source), ("Sources/\(name)/main.swift", main),
                ]
            case .python: [(name, python)]
            case .shell: [(name, shell), ("\(name).jq", jq)]
            }
        return program + [
            ("manifest.json", manifest.json.pretty), ("vcpe-\(name).yang", yang), ("README.md", readme),
            ("cases/hello.yaml", "# A greeting.\n" + Node(input, position: Self.nowhere).yaml),
            ("cases/hello.publish", ""),
            ("cases/hello.plan", resources.map(\.json.line).sorted().map { $0 + "\n" }.joined()),
            ("examples/bad-empty.yaml", "greeting: \"\"\n"),
            ("examples/bad-unknown-key.yaml", "greeting: hello\nname: world\n"),
        ]
    }

    private static let nowhere = SourcePosition(file: "", line: 1, column: 1)

    private var package: String {
        """
        // swift-tools-version: 6.0
        import PackageDescription

        let package = Package(
            name: "\(name)",
            dependencies: [.package(name: "vcpe", path: \(JSON.text(kit).line))],
            targets: [
                .executableTarget(name: "\(name)", dependencies: [.product(name: "PluginKit", package: "vcpe")])
            ]
        )

        """
    }

    private var makefile: String {
        """
        # The plugin's program, linked with Swift's runtime. VCPE_BOX builds only the box's part of vcpe's package.
        \(name): $(shell find Sources) Package.swift
        \tVCPE_BOX=1 swift build -c release --static-swift-stdlib -Xlinker -s
        \tcp .build/release/\(name) \(name)

        """
    }

    private var main: String {
        """
        import Glibc
        import PluginKit

        exit(PluginProgram.run(\(type).self, Array(CommandLine.arguments.dropFirst())))

        """
    }

    private var source: String {
        """
        import PluginKit

        /// `\(name):` of a site document.
        struct Configuration {
            var greeting: String
        }

        /// Writes a greeting to a file. A plugin is a pure function: it reads and writes nothing, and its
        /// only clock is `input.now`.
        enum \(type): Plugin {
            static let manifest = PluginManifest(
                name: "\(name)", version: "0.1.0", summary: "Writes a greeting to a file", key: "\(name)", yang: "vcpe-\(name).yang",
                resources: ["directory", "file"], features: [.init("base")],
                commands: [.init(.show, "greeting", "The contents of the file")])

            /// The shape reports invalid values with their positions.
            static var configuration: Shape<Configuration> {
                .mapping("a greeting") { fields in
                    let greeting = fields.required("greeting", .text("a text of one line") { !$0.isEmpty && !$0.contains("\\n") })
                    return greeting.map { Configuration(greeting: $0) }
                }
            }

            static func publish(_ configuration: Configuration, facts: Facts, into output: inout PublishOutput) {}

            static func plan(_ configuration: Configuration, input: PlanInput, into output: inout PlanOutput) {
                output.add(DirectoryResource(path: "/run/vcpe/\(name)", owner: "root", mode: 0o755))
                output.add(
                    FileResource(
                        path: "/run/vcpe/\(name)/greeting", content: configuration.greeting + "\\n", owner: "root", mode: 0o644))
            }

            static func show(
                _ command: String, _ configuration: Configuration, input: CommandInput, into output: inout ShowOutput
            ) {
                output.columns = ["greeting"]
                output.add(.text(configuration.greeting))
            }
        }

        """
    }

    private var yang: String {
        """
        module vcpe-\(name) {
          yang-version 1.1;
          namespace "urn:vcpe:\(name)";
          prefix p;

          organization "you";
          description "Writes a greeting to a file.";

          revision 2026-11-25 { description "First."; }

          container \(name) {
            presence "There is a greeting.";
            leaf greeting { type string { length "1..max"; } mandatory true; description "A text of one line."; }
          }
        }

        """
    }

    private var readme: String {
        """
        # \(name)

        Writes a greeting to a file, `/run/vcpe/\(name)/greeting`.

        ```yaml
        \(name):
          greeting: hello
        ```

        \(language == .swift ? "`make` builds the program, " : "")`vcpe plugin test .` checks it. To add the plugin to an image, reference this folder in its definition:

        ```
        plugins: [network, firewall, ../\(name)]
        ```

        """
    }
}
