import Documents
import Files
import Planning
import PluginKit
import Processes
import Schema

/// Checks a plugin's folder: its cases, its manifest, its examples against its YANG module.
///
/// - `cases/NAME.yaml` is an input of `publish` and `plan`; `NAME.publish` and `NAME.plan` are the
///   expected answers. With a key `command`, it is an input of `show` or `act`; `NAME.show` or
///   `NAME.act` is the expected answer.
/// - `examples/good-NAME.yaml` and the README's YAML are configurations that plugin and module must
///   accept; both must reject `examples/bad-NAME.yaml`.
public struct PluginCheck {
    /// Returns the lines of a plugin's answer to a verb's input.
    public typealias Answer = (_ verb: String, _ input: JSON) throws -> [String]

    /// A failed check.
    public struct Finding: Sendable, CustomStringConvertible {
        public var message: String
        /// The differences between the expected and the actual lines.
        public var difference: [String] = []

        public var description: String { ([message] + difference.map { "  " + $0 }).joined(separator: "\n") }
    }

    public let folder: String
    public let manifest: PluginManifest
    /// The folders of the modules that its module imports.
    public let modules: [String]
    /// Runs the plugin.
    public let answer: Answer
    /// Runs the plugin in another environment: its answers must not depend on the environment.
    public let answerInOtherEnvironment: Answer

    public init(
        folder: String, manifest: PluginManifest, modules: [String], answer: @escaping Answer,
        answerInOtherEnvironment: @escaping Answer
    ) {
        (self.folder, self.manifest, self.modules) = (folder, manifest, modules)
        (self.answer, self.answerInOtherEnvironment) = (answer, answerInOtherEnvironment)
    }

    // MARK: - Cases

    private var cases: [String] {
        ((try? FileSystem.list("\(folder)/cases")) ?? []).filter { $0.hasSuffix(".yaml") }
    }

    /// - Parameter writes: writes the answers instead of comparing them.
    /// - Returns: the number of checked answers, and the failed checks.
    public func runCases(writes: Bool) throws -> (answers: Int, findings: [Finding]) {
        var (answers, findings): (Int, [Finding]) = (0, [])
        for file in cases {
            let path = "\(folder)/cases/\(file)"
            let input = try allocated(JSON(try YAML.read(try FileSystem.read(path), file: path)))
            for verb in try verbs(of: input, path) {
                answers += 1
                let expected = "\(path.dropLast(5)).\(verb)"
                let lines = try answer(verb, input)
                let text = lines.map { $0 + "\n" }.joined()
                if try answer(verb, input) != lines {
                    findings.append(Finding(message: "\(path): \(verb) gives different answers to the same input"))
                }
                if try answerInOtherEnvironment(verb, input) != lines {
                    findings.append(Finding(message: "\(path): \(verb) depends on its environment"))
                }
                findings += Self.argumentFindings(input, manifest).map { Finding(message: "\(path): \($0)") }
                if verb == "publish" {
                    findings += violations(publishing: lines).map { Finding(message: "\(path): \($0)") }
                }
                if verb == "plan" { findings += invalidLines(lines).map { Finding(message: "\(path): \($0)") } }
                if writes {
                    try FileSystem.replace(expected, with: text)
                    continue
                }
                let known =
                    FileSystem.exists(expected) ? String(decoding: try FileSystem.read(expected), as: UTF8.self) : nil
                guard known != text else { continue }
                findings.append(
                    Finding(
                        message: known == nil ? "\(expected) is missing" : "\(expected) differs",
                        difference: LineDifference.unified(from: known ?? "", to: text)))
            }
        }
        return (answers, findings)
    }

    /// The plugin's numbers in an image without other plugins.
    private var share: Allocation.Share {
        get throws { try Allocation(of: [manifest]).share(of: manifest.name) }
    }

    /// An input with what the engine adds to it; a case may have other numbers.
    private func allocated(_ input: JSON) throws -> JSON {
        let share = try share
        guard !share.isEmpty, var entries = input.object, entries["allocated"] == nil else { return input }
        entries["allocated"] = share.json
        return .object(entries)
    }

    private func verbs(of input: JSON, _ path: String) throws -> [String] {
        guard let name = input["command"]?.text else { return ["publish", "plan"] }
        guard let command = manifest.commands.first(where: { $0.name == name }) else {
            throw BuildFailure(
                "\(path): the manifest has no command \(name)",
                hint: "declare it in the manifest's commands, or correct the case's name")
        }
        return [command.verb.rawValue]
    }

    /// What the arguments of a command's case have, and no box would send.
    public static func argumentFindings(_ input: JSON, _ manifest: PluginManifest) -> [String] {
        guard let command = manifest.commands.first(where: { $0.name == input["command"]?.text }) else { return [] }
        let names = command.arguments.map(\.name)
        let allowed = names.isEmpty ? "the command has none" : "allowed are \(names.joined(separator: ", "))"
        guard let arguments = (input["arguments"] ?? [:]).object else {
            return ["arguments is not an object of texts by name; \(allowed)"]
        }
        let missing = command.arguments.filter { !$0.isOptional && arguments[$0.name] == nil }
        return missing.map { "the argument \($0.name) is missing; it is not optional" }
            + arguments.keys.sorted().compactMap { name in
                guard names.contains(name) else { return "the argument \(name) is not in the manifest; \(allowed)" }
                return arguments[name]?.text == nil ? "the argument \(name) is not a text, as the box sends it" : nil
            }
    }

    /// The invalid lines of a plan.
    private func invalidLines(_ lines: [String]) -> [String] {
        var resources: [Resource] = []
        let invalid: [String] = lines.compactMap { line in
            do {
                let json = try JSON.parse(line)
                if Diagnostic(json) != nil || json["replan-at"] != nil { return nil }
                guard json.line == line else { return "the line is not in its shortest form: \(line.prefix(200))" }
                let resource = try Resource(json, customKinds: Set(manifest.resources))
                guard manifest.resources.contains(resource.kind) else {
                    return "the manifest does not list the resource kind \(resource.kind)"
                }
                _ = try resource.allocated(by: share, of: manifest.name, line: line)
                resources.append(resource)
                return nil
            } catch {
                return "\(error)"
            }
        }
        return invalid + manifest.violations(plan: resources, isOwn: isOwn).map(\.description)
    }

    /// Published values beyond the manifest.
    private func violations(publishing lines: [String]) -> [String] {
        let published = lines.compactMap { try? JSON.parse($0) }
        return manifest.violations(plan: [], published: published, isOwn: isOwn).map(\.description)
    }

    private var isOwn: Bool { ForeignPlugins.ownNames.contains(manifest.name) }

    // MARK: - The manifest

    public func checkManifest(_ described: PluginManifest) -> [Finding] {
        let forbidden = isOwn ? [] : ForeignPlugins.objections(to: manifest)
        let findings =
            stateFindings + lockFindings + forbidden.map { Finding(message: "\(folder)/manifest.json: \($0)") }
        if described == manifest { return findings }
        return findings + [
            Finding(
                message: "\(folder)/manifest.json differs from the answer to describe",
                difference: LineDifference.unified(from: manifest.json.pretty, to: described.json.pretty))
        ]
    }

    /// Lists of the operational state that the module doesn't have: nothing would ever be in them.
    private var stateFindings: [Finding] {
        let module = (try? FileSystem.read("\(folder)/\(manifest.yang)")).map { String(decoding: $0, as: UTF8.self) }
        let tree = StateTree(schema: Schema(modules: module.map { [$0] } ?? []))
        return manifest.state.filter {
            tree.list(at: [manifest.key] + $0.path.split(separator: ".").map(String.init)) == nil
        }.map { list in
            Finding(
                message: "state: \(manifest.yang) has no list \(list.path) with config false and one key; "
                    + "add it below the container \(manifest.key), or correct the manifest")
        }
    }

    /// Locks of paths that the module doesn't have: they would lock nothing.
    private var lockFindings: [Finding] {
        let files =
            ["\(folder)/\(manifest.yang)"]
            + modules.flatMap { folder in
                ((try? FileSystem.list(folder)) ?? []).filter { $0.hasSuffix(".yang") }.map { "\(folder)/\($0)" }
            }
        let texts = files.compactMap { try? FileSystem.read($0) }.map { String(decoding: $0, as: UTF8.self) }
        let schema = Schema(modules: texts)
        return manifest.locks.compactMap { lock in
            guard let path = try? DocumentPath(lock.isEmpty ? manifest.key : "\(manifest.key).\(lock)"),
                let (message, hint) = schema.objection(toLocking: path, keys: [manifest.key])
            else { return nil }
            return Finding(message: "\(folder)/manifest.json: locks: \"\(lock)\": \(message); \(hint)")
        }
    }

    // MARK: - Examples

    /// The example configurations: a name for errors, the configuration, and whether it is valid.
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
                throw BuildFailure(
                    "\(path): found another name, allowed are good-….yaml and bad-….yaml",
                    hint: "rename the file by what the plugin must answer to it")
            }
            found.append((path, JSON(try YAML.read(try FileSystem.read(path), file: path)), isGood))
        }
        return found
    }

    /// - Returns: the number of checked examples, and the failed checks.
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
                let errors = result.errorText.split(separator: "\n").map(String.init)
                findings.append(
                    Finding(
                        message: "\(name): the module \(manifest.yang) \(isGood ? "rejects" : "accepts") it",
                        difference: errors))
            }
            let problems = try answer("publish", ["configuration": configuration, "facts": [:]]).filter {
                (try? JSON.parse($0)).flatMap { Diagnostic($0) }?.severity == .error
            }
            if problems.isEmpty != isGood {
                findings.append(
                    Finding(message: "\(name): the plugin \(isGood ? "rejects" : "accepts") it", difference: problems))
            }
        }
        return (all.count, findings)
    }
}
