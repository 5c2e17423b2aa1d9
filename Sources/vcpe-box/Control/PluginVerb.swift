import Documents
import Engine
import PluginKit
import Terminals

/// Commands that plugins bring: vcpectl knows of them by the engine alone.
enum PluginVerb {
    struct Known {
        var plugin: String
        var command: OperatorCommand

        var usage: String {
            ([command.name]
                + command.arguments.map { $0.isOptional ? "[\($0.name.uppercased())]" : $0.name.uppercased() })
                .joined(separator: " ")
        }
    }

    static func all() throws -> [Known] {
        let answer = try EngineClient().answer(to: ["do": "commands"])
        return (answer["commands"]?.list ?? []).compactMap { json in
            guard let plugin = json["plugin"]?.text, let command = OperatorCommand(json) else { return nil }
            return Known(plugin: plugin, command: command)
        }
    }

    static func help(of name: String) throws -> String {
        let known = try all()
        let commands = known.filter { $0.plugin == name }
        guard !commands.isEmpty else { throw unknown(name, known) }
        var text = ""
        for command in commands {
            text += TerminalText.line("vcpectl \(name) \(command.usage): \(command.command.summary)") + "\n"
            for argument in command.command.arguments {
                let words = "  \(TextTable.left(argument.name.uppercased(), 14)) \(argument.summary)"
                text += TerminalText.line(words) + "\n"
            }
        }
        return text
    }

    private static func unknown(_ name: String, _ known: [Known]) -> WrongUsage {
        let names = ControlCommand.verbs.map(\.name) + Set(known.map(\.plugin)).sorted()
        let meant = didYouMean(name, among: names).map { "did you mean \($0)? " } ?? ""
        return WrongUsage("vcpectl has no verb \"\(name)\": \(meant)vcpectl help lists them")
    }

    static func run(_ arguments: [String]) throws {
        let name = arguments[0]
        let words = arguments.dropFirst().filter { $0 != "--json" && $0 != "--help" }
        let known: [Known]
        do {
            known = try all()
        } catch {
            // Without an engine nobody knows what plugins have.
            throw didYouMean(name, among: ControlCommand.verbs.map(\.name)) == nil ? error : unknown(name, [])
        }
        guard known.contains(where: { $0.plugin == name }) else { throw unknown(name, known) }
        if arguments.contains("--help") || words.isEmpty { return Terminal.say(try help(of: name)) }
        let answer = try EngineClient().answer(
            to: [
                "do": "run", "plugin": .text(name), "command": .text(words[0]),
                "arguments": .texts(Array(words.dropFirst())),
            ])
        let asJSON = arguments.contains("--json")
        Terminal.warn(answer)
        guard let columns = answer["columns"]?.list?.compactMap(\.text), let rows = answer["rows"]?.list else {
            if !asJSON {
                CommitVerbs.say(answer)
                for line in answer["said"]?.list ?? [] { Terminal.line(line.text ?? "") }
            }
            // A command that changed the document failed if its commit is rolled back.
            try CommitVerbs.waitForVerdict(answer, asJSON: asJSON)
            if asJSON { Terminal.say(answer.pretty) }
            return
        }
        let table = TextTable(columns: columns, rows: rows.map { $0.list ?? [] })
        Terminal.say(asJSON ? table.json.pretty : table.text)
    }
}
