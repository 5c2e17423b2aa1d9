import Documents
import Files
import Planning
import PluginKit
import Processes

/// Checks a plugin's folder: its cases, its manifest, its examples against its YANG module.
///
/// - `cases/NAME.yaml` is an input of `publish` and `plan`, and `NAME.publish` and `NAME.plan` what the plugin answers; with
///   a key `command`, it is one of `show` or `act`, and `NAME.show` or `NAME.act` the answer.
/// - `examples/good-NAME.yaml` and the README's YAML are configurations that plugin and module must both take,
///   `examples/bad-NAME.yaml` ones that both must refuse.
public struct PluginCheck {
    /// The lines that a plugin answers a verb's input with.
    public typealias Answer = (_ verb: String, _ input: JSON) throws -> [String]

    /// What is wrong.
    public struct Finding: Sendable, CustomStringConvertible {
        public var what: String
        /// Lines of what is expected and what came.
        public var difference: [String] = []

        public var description: String { ([what] + difference.map { "  " + $0 }).joined(separator: "\n") }
    }

    public let folder: String
    public let manifest: PluginManifest
    /// Where modules that its own imports lie.
    public let modules: [String]
    /// Runs it.
    public let answer: Answer
    /// Runs it in another environment: what a plugin says must not depend on any.
    public let answerElsewhere: Answer

    public init(
        folder: String, manifest: PluginManifest, modules: [String], answer: @escaping Answer,
        answerElsewhere: @escaping Answer
    ) {
        (self.folder, self.manifest, self.modules) = (folder, manifest, modules)
        (self.answer, self.answerElsewhere) = (answer, answerElsewhere)
    }

    // MARK: - Cases

    private var cases: [String] {
        ((try? FileSystem.list("\(folder)/cases")) ?? []).filter { $0.hasSuffix(".yaml") }
    }

    /// - Parameter writes: writes the answers anew instead of comparing them.
    /// - Returns: how many answers were looked at, and what is wrong.
    public func runCases(writes: Bool) throws -> (answers: Int, findings: [Finding]) {
        var (answers, findings): (Int, [Finding]) = (0, [])
        for file in cases {
            let path = "\(folder)/cases/\(file)"
            let input = JSON(try YAML.read(try FileSystem.read(path), file: path))
            for verb in try verbs(of: input, path) {
                answers += 1
                let expected = "\(path.dropLast(5)).\(verb)"
                let lines = try answer(verb, input)
                let text = lines.map { $0 + "\n" }.joined()
                if try answer(verb, input) != lines {
                    findings.append(Finding(what: "\(path): \(verb) says another thing each time"))
                }
                if try answerElsewhere(verb, input) != lines {
                    findings.append(Finding(what: "\(path): \(verb) depends on its environment"))
                }
                if verb == "plan" { findings += unreadable(lines).map { Finding(what: "\(path): \($0)") } }
                if writes {
                    try FileSystem.replace(expected, with: text)
                    continue
                }
                let known =
                    FileSystem.exists(expected) ? String(decoding: try FileSystem.read(expected), as: UTF8.self) : nil
                guard known != text else { continue }
                findings.append(
                    Finding(
                        what: known == nil ? "\(expected) is missing" : "\(expected) differs",
                        difference: LineDifference.unified(from: known ?? "", to: text)))
            }
        }
        return (answers, findings)
    }

    private func verbs(of input: JSON, _ path: String) throws -> [String] {
        guard let name = input["command"]?.text else { return ["publish", "plan"] }
        guard let command = manifest.commands.first(where: { $0.name == name }) else {
            throw BuildFailure("\(path): the manifest knows no command \(name)")
        }
        return [command.verb.rawValue]
    }

    /// What of a plan can't be read as it was meant.
    private func unreadable(_ lines: [String]) -> [String] {
        lines.compactMap { line in
            do {
                let json = try JSON.parse(line)
                if Diagnostic(json) != nil || json["replan-at"] != nil { return nil }
                guard json.line == line else { return "the line is not in its shortest form: \(line.prefix(200))" }
                let resource = try Resource(json)
                guard manifest.resources.contains(resource.kind.rawValue) else {
                    return "the manifest says nothing of the kind \(resource.kind.rawValue)"
                }
                return nil
            } catch {
                return "\(error)"
            }
        }
    }

    // MARK: - The manifest

    public func checkManifest(_ said: PluginManifest) -> [Finding] {
        if said == manifest { return [] }
        return [
            Finding(
                what: "\(folder)/manifest.json says another thing than describe",
                difference: LineDifference.unified(from: manifest.json.pretty, to: said.json.pretty))
        ]
    }

    // MARK: - Examples

    /// The configurations that people find: by a name for errors, and whether they are right.
    private func examples() throws -> [(name: String, configuration: JSON, isGood: Bool)] {
        var found: [(String, JSON, Bool)] = []
        let readme = "\(folder)/README.md"
        if FileSystem.exists(readme) {
            var text: String?
            for line in String(decoding: try FileSystem.read(readme), as: UTF8.self).split(
                separator: "\n", omittingEmptySubsequences: false)
            {
                if line == "```yaml" {
                    text = ""
                } else if line == "```", let block = text {
                    let site = JSON(try YAML.read(Array(block.utf8), file: readme))
                    if let part = site[manifest.key] { found.append((readme, part, true)) }
                    text = nil
                } else if let block = text {
                    text = block + line + "\n"
                }
            }
        }
        for file in ((try? FileSystem.list("\(folder)/examples")) ?? []) where file.hasSuffix(".yaml") {
            let path = "\(folder)/examples/\(file)"
            let isGood = file.hasPrefix("good-")
            guard isGood || file.hasPrefix("bad-") else {
                throw BuildFailure("\(path): examples are named good-….yaml and bad-….yaml")
            }
            found.append((path, JSON(try YAML.read(try FileSystem.read(path), file: path)), isGood))
        }
        return found
    }

    /// - Returns: how many examples were looked at, and where plugin or module don't say what they should.
    public func checkExamples() throws -> (examples: Int, findings: [Finding]) {
        let scratch = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-yang")
        defer { try? FileSystem.remove(scratch) }
        let module = manifest.yang.split(separator: ".")[0].split(separator: "@")[0]
        var findings: [Finding] = []
        let all = try examples()
        for (name, configuration, isGood) in all {
            let data = JSON.object(["\(module):\(manifest.key)": configuration])
            try FileSystem.replace("\(scratch)/data.json", with: data.line)
            let result = try Command(
                "yanglint",
                (modules + [folder]).flatMap { ["-p", $0] } + [
                    "-t", "config", "\(folder)/\(manifest.yang)", "\(scratch)/data.json",
                ]
            ).run()
            if (result.status == 0) != isGood {
                let said = result.errorText.split(separator: "\n").map(String.init)
                findings.append(
                    Finding(
                        what: "\(name): the module \(manifest.yang) \(isGood ? "refuses" : "takes") it",
                        difference: said))
            }
            let problems = try answer("publish", ["configuration": configuration, "facts": [:]]).filter {
                (try? JSON.parse($0)).flatMap { Diagnostic($0) }?.severity == .error
            }
            if problems.isEmpty != isGood {
                findings.append(
                    Finding(what: "\(name): the plugin \(isGood ? "refuses" : "takes") it", difference: problems))
            }
        }
        return (all.count, findings)
    }
}
