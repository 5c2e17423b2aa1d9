import CSystem
import Files
import Glibc
import PluginKit
import Processes

/// A plugin's program, run as one: a verb, JSON in, lines of JSON out.
struct PluginRunner {
    let name: String
    let program: String

    /// Seconds that a plugin may take.
    private static let deadline = 10
    /// Bytes that it may say.
    private static let limit = 64 << 20

    /// The plugins of a folder, by their manifests' names.
    static func all(in folder: String) throws -> [PluginRunner] {
        guard FileSystem.exists(folder) else { return [] }
        return try FileSystem.list(folder).filter { FileSystem.exists("\(folder)/\($0)/\($0)") }.map {
            PluginRunner(name: $0, program: "\(folder)/\($0)/\($0)")
        }
    }

    func describe() throws -> Manifest {
        let text = try run("describe", input: nil)
        let problems = ProblemList()
        let node = try YAML.read(Array(text.utf8), file: "plugin \(name)")
        guard let manifest = Manifest.shape.read(node, path: "", into: problems), problems.problems.isEmpty else {
            throw EngineError("plugin \(name): its manifest can't be read: \(InvalidDocument(problems.problems))")
        }
        return manifest
    }

    /// The lines that it answers with.
    func ask(_ verb: String, _ input: JSON) throws -> [JSON] {
        let text = try run(verb, input: input)
        var lines: [JSON] = []
        guard text.isEmpty || text.hasSuffix("\n") else {
            throw EngineError("plugin \(name) \(verb): its last line has no end: it was cut off")
        }
        for line in text.split(separator: "\n") {
            do {
                lines.append(try JSON.parse(line.utf8))
            } catch {
                throw EngineError("plugin \(name) \(verb): a line is no JSON (\(error)): \(line.prefix(120))")
            }
        }
        return lines
    }

    private func run(_ verb: String, input: JSON?) throws -> String {
        let file = try File("/tmp", O_RDWR | csystem_temporary_flag, mode: 0o600)
        if let input { try file.write(Array(input.line.utf8), at: 0) }
        // Resources that a plugin of ours never comes near; a runaway ends here and not in a full memory.
        let result = try Command(
            "/usr/bin/env",
            ["-i", "timeout", "--signal=KILL", String(Self.deadline), program, verb]
        ).run(input: file)
        guard result.status == 0 else {
            let why = result.status == 137 ? "it was killed after \(Self.deadline) s" : "it ended with \(result.status)"
            let said = result.errorText.split(separator: "\n").suffix(3).joined(separator: "; ")
            throw EngineError("plugin \(name) \(verb): \(why)\(said.isEmpty ? "" : ": \(said)")")
        }
        guard result.output.count <= Self.limit else {
            throw EngineError("plugin \(name) \(verb): it said \(result.output.count) bytes; \(Self.limit) are allowed")
        }
        guard let text = String(validating: result.output, as: UTF8.self) else {
            throw EngineError("plugin \(name) \(verb): its output is not UTF-8")
        }
        return text
    }
}
