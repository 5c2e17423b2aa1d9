import Glibc

/// Runs a plugin as the program that the engine calls: a verb as argument, JSON in, lines of JSON out.
public enum PluginProgram {
    /// - Returns: the exit code: 0, or 64 for a verb or an input that is none.
    public static func run<P: Plugin>(_ plugin: P.Type, _ arguments: [String]) -> Int32 {
        guard let verb = arguments.first, arguments.count == 1 else { return usage(P.manifest.name) }
        if verb == "describe" {
            write(P.manifest.json.pretty)
            return 0
        }
        let known: [String: (JSON) -> [String]] = [
            "publish": { answer(plugin, isPlan: false, $0) }, "plan": { answer(plugin, isPlan: true, $0) },
            "show": { command(plugin, .show, $0) }, "act": { command(plugin, .act, $0) },
            "migrate": { [P.migrate($0["configuration"] ?? .null, from: $0["from"]?.text ?? "").line] },
        ]
        guard let answer = known[verb] else { return usage(P.manifest.name) }
        let document: JSON
        do {
            document = try JSON.parse(readInput())
        } catch {
            complain("\(P.manifest.name): the input is no JSON: \(error)\n")
            return 64
        }
        write(answer(document).map { $0 + "\n" }.joined())
        return 0
    }

    /// Reads parts of an input.
    private struct InputReader {
        let document: JSON
        let problems = ProblemList()

        func read<Value>(_ key: String, _ shape: Shape<Value>) -> Value? {
            let start = SourcePosition(file: key, line: 1, column: 1)
            return shape.read(Node(document[key] ?? [:], position: start), path: "", into: problems)
        }

        /// What was wrong, as the plugin says it.
        var diagnostics: [String] { problems.problems.map { Diagnostic($0).json.line }.sorted() }
    }

    /// The lines that a plugin answers with, sorted.
    public static func answer<P: Plugin>(_ plugin: P.Type, isPlan: Bool, _ document: JSON) -> [String] {
        let reader = InputReader(document: document)
        let facts = reader.read("facts", Facts.shape) ?? Facts()
        let published = reader.read("published", Published.shape) ?? Published()
        let allocated = reader.read("allocated", Allocation.Share.shape) ?? Allocation.Share()
        let configuration = reader.read("configuration", P.configuration)
        guard let configuration, reader.problems.problems.isEmpty else { return reader.diagnostics }
        var lines: [String]
        if isPlan {
            var output = PlanOutput()
            let now = document["now"]?.integer ?? 0
            let input = PlanInput(
                facts: facts, published: published, now: now, explains: document["explain"]?.boolean ?? false,
                allocated: allocated)
            P.plan(configuration, input: input, into: &output)
            lines = output.lines + output.diagnostics.map(\.json.line)
            if let time = output.replanAt { lines.append((["replan-at": .integer(time)] as JSON).line) }
        } else {
            var output = PublishOutput()
            P.publish(configuration, facts: facts, into: &output)
            lines = output.lines.map(\.line) + output.diagnostics.map(\.json.line)
        }
        lines.sort()
        return lines
    }

    /// The lines that a plugin answers one of its commands with, in their order.
    public static func command<P: Plugin>(
        _ plugin: P.Type, _ verb: OperatorCommand.Verb, _ document: JSON
    ) -> [String] {
        let reader = InputReader(document: document)
        let facts = reader.read("facts", Facts.shape) ?? Facts()
        let configuration = reader.read("configuration", P.configuration)
        let name = document["command"]?.text ?? ""
        guard P.manifest.commands.contains(where: { $0.name == name && $0.verb == verb }) else {
            return [Diagnostic(.error, path: "", "there is no command \(name) to \(verb.rawValue)").json.line]
        }
        guard let configuration, reader.problems.problems.isEmpty else { return reader.diagnostics }
        let input = CommandInput(document, facts: facts)
        switch verb {
        case .show:
            var output = ShowOutput()
            P.show(name, configuration, input: input, into: &output)
            return output.lines
        case .act:
            var output = ActOutput()
            P.act(name, configuration, input: input, into: &output)
            return output.lines
        }
    }

    private static func usage(_ name: String) -> Int32 {
        complain(
            "\(name) is a plugin of vcpe: \(name) describe | publish | plan | show | act | migrate, with JSON on standard input "
                + "(docs/plugins.md)\n")
        return 64
    }

    private static func readInput() -> [UInt8] {
        var input: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = read(0, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            if count <= 0 { return input }
            input += buffer[..<count]
        }
    }

    private static func write(_ text: String) {
        var text = text
        text.withUTF8 { bytes in
            var done = 0
            while done < bytes.count {
                let count = Glibc.write(1, bytes.baseAddress.map { $0 + done }, bytes.count - done)
                if count < 0, errno == EINTR { continue }
                if count <= 0 { return }
                done += count
            }
        }
    }

    private static func complain(_ text: String) {
        var text = text
        text.withUTF8 { _ = Glibc.write(2, $0.baseAddress, $0.count) }
    }
}
