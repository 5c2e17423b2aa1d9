import Documents
import Engine
import Files
import Schema

/// What completes vcpectl's words in a shell: the scripts ask vcpectl itself.
enum Completion {
    static func script(for shell: String) throws -> String {
        switch shell {
        case "bash":
            return """
                _vcpectl() {
                    local IFS=$'\\n'
                    COMPREPLY=($(vcpectl complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
                    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} != *[.\\[] ]] && COMPREPLY[0]+=" "
                }
                complete -o nospace -F _vcpectl vcpectl

                """
        case "zsh":
            return """
                _vcpectl() {
                    local -a found
                    found=("${(@f)$(vcpectl complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
                    compadd -S '' -- $found
                }
                compdef _vcpectl vcpectl

                """
        default: throw WrongUsage("completion is for bash and zsh, not for \"\(shell)\"")
        }
    }

    /// Prints what the last of the words may become, a line each.
    static func run(_ words: [String]) { for candidate in fitting(words) { Terminal.line(candidate) } }

    /// What the last word of a line may become.
    static func line(_ line: String) -> [String] {
        let words = line.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
        return fitting(Array(words.dropLast().filter { !$0.isEmpty }) + words.suffix(1))
    }

    private static func fitting(_ words: [String]) -> [String] {
        let begun = words.last ?? ""
        return candidates(words).filter { $0.hasPrefix(begun) }.sorted()
    }

    private static func candidates(_ words: [String]) -> [String] {
        guard words.count > 1 else {
            let plugins = ((try? PluginVerb.all()) ?? []).map(\.plugin)
            return ControlCommand.verbs.map(\.name) + Set(plugins) + ["help"]
        }
        let begun = words.last ?? ""
        if begun.hasPrefix("-"), let verb = ControlCommand.verbs.first(where: { $0.name == words[0] }) {
            return verb.options.map(\.name) + ["--json", "--help"]
        }
        switch (words[0], words.count) {
        case ("show", 2): return paths(begun, candidate: words.contains("--candidate"), withSchema: false)
        case ("set", 2): return paths(begun, candidate: true, withSchema: true)
        case ("delete", 2): return paths(begun, candidate: true, withSchema: false)
        case ("set", 3): return Schema.all().values(at: words[1])
        case ("show-commit", 2), ("rollback", 2), ("diff", 2...3):
            let answer = try? EngineClient().answer(to: ["do": "history"])
            return (answer?["commits"]?.list ?? []).compactMap { $0["number"]?.integer.map(String.init) }
        case ("start", 2), ("stop", 2), ("restart", 2):
            return ((try? Supervision.services()) ?? []).compactMap { $0["name"]?.text }
        case ("log", 2): return (try? Supervision.logs()) ?? []
        case ("completion", 2): return ["bash", "zsh"]
        case ("help", 2): return ControlCommand.verbs.map(\.name)
        case (let plugin, 2): return ((try? PluginVerb.all()) ?? []).filter { $0.plugin == plugin }.map(\.command.name)
        case (let plugin, let count):
            let answer = try? EngineClient().answer(
                to: [
                    "do": "values", "plugin": .text(plugin), "command": .text(words[1]),
                    "argument": .integer(count - 3),
                ])
            return (answer?["values"]?.list ?? []).compactMap(\.text)
        }
    }

    /// Paths that begin so, as far as the next key: of the document, and of what the plugins' modules allow.
    private static func paths(_ begun: String, candidate: Bool, withSchema: Bool) -> [String] {
        guard let answer = try? EngineClient().answer(to: ["do": candidate ? "candidate" : "show"]),
            let document = try? YAML.read(Array((answer["site"]?.text ?? "").utf8), file: "site")
        else { return [] }
        // What stands before the part that is being written.
        let cut = begun.lastIndex { $0 == "." || $0 == "[" }
        let isItem = cut.map { begun[$0] == "[" } ?? false
        let above = cut.map { String(begun[..<$0]) } ?? ""
        guard let path = try? DocumentPath(above) else { return [] }
        let node = document.value(at: path)
        if isItem {
            guard case .sequence(let items)? = node?.value else { return [] }
            return items.enumerated().map { index, item in "\(above)[\(item.itemName ?? String(index))]" }
        }
        var names: [String: String] = [:]
        if case .mapping(let entries)? = node?.value {
            for entry in entries {
                switch entry.value.value {
                case .mapping: names[entry.key] = "."
                case .sequence(let items):
                    names[entry.key] = items.contains { if case .mapping = $0.value { true } else { false } } ? "[" : ""
                case .scalar: names[entry.key] = ""
                }
            }
        }
        if withSchema {
            for child in Schema.all().children(at: path) where names[child.name] == nil {
                names[child.name] = child.kind == .container ? "." : child.kind == .list ? "[" : ""
            }
        }
        return names.map { (above.isEmpty ? "" : above + ".") + $0.key + $0.value }
    }
}
