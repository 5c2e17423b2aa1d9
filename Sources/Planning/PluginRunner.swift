import Documents
import Files
import Glibc
import PluginKit
import Processes

/// A plugin's program, run as one: a verb, JSON in, lines of JSON out.
public struct PluginRunner: Sendable {
    public let name: String
    /// The program and what stands before the verb.
    let command: [String]

    /// Seconds that a plugin may take.
    private static let deadline = 10.0
    /// Bytes that it may say.
    private static let limit = 64 << 20

    public init(name: String, command: [String]) {
        self.name = name
        self.command = command
    }

    /// The plugins of a folder: `NAME/NAME` is a program.
    public static func all(in folder: String) throws -> [PluginRunner] {
        guard FileSystem.exists(folder) else { return [] }
        return try FileSystem.list(folder).filter { FileSystem.exists("\(folder)/\($0)/\($0)") }.map {
            PluginRunner(name: $0, command: ["\(folder)/\($0)/\($0)"])
        }
    }

    public func describe() throws -> PluginManifest {
        let text = try run("describe", input: nil)
        let problems = ProblemList()
        let node = try YAML.read(Array(text.utf8), file: "plugin \(name)")
        guard let manifest = PluginManifest.shape.read(node, path: "", into: problems), problems.problems.isEmpty else {
            throw PluginFailure("plugin \(name): its manifest can't be read: \(InvalidDocument(problems.problems))")
        }
        return manifest
    }

    /// The lines that it answers with.
    func ask(_ verb: String, _ input: JSON) throws -> [JSON] {
        let text = try run(verb, input: input)
        var lines: [JSON] = []
        guard text.isEmpty || text.hasSuffix("\n") else {
            throw PluginFailure("plugin \(name) \(verb): its last line has no end: it was cut off")
        }
        for line in text.split(separator: "\n") {
            do {
                lines.append(try JSON.parse(line.utf8))
            } catch {
                throw PluginFailure("plugin \(name) \(verb): a line is no JSON (\(error)): \(line.prefix(120))")
            }
        }
        return lines
    }

    private func run(_ verb: String, input: JSON?) throws -> String {
        let result: Command.Result
        do {
            result = try Command(command[0], command.dropFirst() + [verb]).run(
                input: input.map { try File.temporary(holding: Array($0.line.utf8)) }, deadline: Self.deadline,
                limit: Self.limit)
        } catch let error as Command.Overrun {
            throw PluginFailure("plugin \(name) \(verb): \(error)")
        }
        guard result.status == 0 else {
            let said = result.errorText.split(separator: "\n").suffix(3).joined(separator: "; ")
            throw PluginFailure(
                "plugin \(name) \(verb): it ended with \(result.status)\(said.isEmpty ? "" : ": \(said)")")
        }
        guard let text = String(validating: result.output, as: UTF8.self) else {
            throw PluginFailure("plugin \(name) \(verb): its output is not UTF-8")
        }
        return text
    }
}
