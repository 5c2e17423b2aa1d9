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
        let known: [String: ([UInt8]) throws -> Void] = [
            "publish": { write(lines: answer(plugin, isPlan: false, try Node(json: $0, position: start))) },
            "plan": { input in
                answer(plugin, isPlan: true, try Node(json: input, position: start)) { lines in
                    write(lines: lines)
                    // To free what was made of a hundred thousand values first would only take
                    // time.
                    _exit(0)
                }
            },
            "show": { write(lines: command(plugin, .show, try JSON.parse($0))) },
            "act": { write(lines: command(plugin, .act, try JSON.parse($0))) },
            "migrate": { input in
                let document = try JSON.parse(input)
                let configuration = document["configuration"] ?? .null
                write(lines: [P.migrate(configuration, from: document["from"]?.text ?? "").line])
            },
        ]
        guard let answer = known[verb] else { return usage(P.manifest.name) }
        do {
            try answer(readInput())
        } catch {
            complain("\(P.manifest.name): the input is no JSON: \(error)\n")
            return 64
        }
        return 0
    }

    private static let start = SourcePosition(file: "input", line: 1, column: 1)

    private static func write(lines: [String]) {
        var output: [UInt8] = []
        for line in lines {
            output.append(contentsOf: line.utf8)
            output.append(UInt8(ascii: "\n"))
        }
        write(output)
    }

    /// Reads parts of an input.
    private struct InputReader {
        let document: Node
        let problems = ProblemList()

        func read<Value>(_ key: String, _ shape: Shape<Value>) -> Value? {
            shape.read(document[key]?.value ?? Node([:], position: start), path: "", into: problems)
        }

        func scalar(_ key: String) -> JSON? { (document[key]?.value).map { JSON($0) } }

        /// What was wrong, as the plugin says it.
        var diagnostics: [String] { problems.problems.map { Diagnostic($0).json.line }.sorted() }
    }

    /// The lines that a plugin answers with, sorted.
    public static func answer<P: Plugin>(_ plugin: P.Type, isPlan: Bool, _ document: JSON) -> [String] {
        answer(plugin, isPlan: isPlan, Node(document, position: start))
    }

    private static func answer<P: Plugin>(_ plugin: P.Type, isPlan: Bool, _ document: Node) -> [String] {
        answer(plugin, isPlan: isPlan, document) { $0 }
    }

    /// - Parameter body: takes the lines while what they were made of is still there.
    private static func answer<P: Plugin, Result>(
        _ plugin: P.Type, isPlan: Bool, _ document: Node, _ body: ([String]) -> Result
    ) -> Result {
        let reader = InputReader(document: document)
        let facts = reader.read("facts", Facts.shape) ?? Facts()
        let published = reader.read("published", Published.shape) ?? Published()
        let allocated = reader.read("allocated", Allocation.Share.shape) ?? Allocation.Share()
        let configuration = reader.read("configuration", P.configuration)
        guard let configuration, reader.problems.problems.isEmpty else { return body(reader.diagnostics) }
        var lines: [String]
        if isPlan {
            var output = PlanOutput()
            let now = reader.scalar("now")?.integer ?? 0
            let input = PlanInput(
                facts: facts, published: published, now: now,
                explains: reader.scalar("explain")?.boolean ?? false, allocated: allocated)
            P.plan(configuration, input: input, into: &output)
            lines = output.lines + output.diagnostics.map(\.json.line)
            if let time = output.replanAt { lines.append((["replan-at": .integer(time)] as JSON).line) }
        } else {
            var output = PublishOutput()
            P.publish(configuration, facts: facts, into: &output)
            lines = output.lines.map(\.line) + output.diagnostics.map(\.json.line)
        }
        lines.sort()
        return withExtendedLifetime((reader, configuration)) { body(lines) }
    }

    /// The lines that a plugin answers one of its commands with, in their order.
    public static func command<P: Plugin>(
        _ plugin: P.Type, _ verb: OperatorCommand.Verb, _ document: JSON
    ) -> [String] {
        let reader = InputReader(document: Node(document, position: start))
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

    private static func write(_ text: String) { write(Array(text.utf8)) }

    private static func write(_ output: [UInt8]) {
        output.withUnsafeBufferPointer { bytes in
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
