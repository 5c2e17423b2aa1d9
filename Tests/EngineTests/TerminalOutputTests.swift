import Documents
@testable import Engine
import Files
import Glibc
import Processes
import Testing

/// What vcpectl writes can't command the terminal that shows it: all verbs, with hostile values in
/// each field.
@Suite final class TerminalOutputTests {
    private let engine: HostileEngine
    private let folder: String

    init() throws {
        engine = try HostileEngine()
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-output")
        // vcpectl is another user's.
        chmod(folder, 0o755)
    }

    deinit { try? FileSystem.remove(folder) }

    /// A verb as its help tells of it.
    private struct Verb {
        var name: String
        /// Its words, in each form that it has.
        var forms: [[String]]
        /// Options, each with its value.
        var options: [[String]]
    }

    /// What is written for a word of a usage; nil for a word that the test does not know.
    private func value(_ word: String, of verb: String) throws -> [String]? {
        let file = "\(folder)/site.yaml"
        if !FileSystem.exists(file) { try FileSystem.replace(file, with: "network: {}\n", mode: 0o644) }
        switch word {
        case "FILE": return verb == "support-bundle" ? ["-"] : [file]
        case "NAME": return ["provider"]
        case "N", "M", "[M]": return ["1"]
        case "PATH": return ["network"]
        case "VALUE", "TEXT", "TEXT|PACKET", "WHAT…", "VERSION", "INTERFACE", "USER": return [HostileEngine.value]
        case "WHAT": return verb == "upgrade" ? ["status"] : [HostileEngine.value]
        case "DEED": return ["add"]
        case "OUTCOME": return ["done"]
        case "DISK", "ADDRESS": return ["sda"]
        case "TIME": return ["90s"]
        case "FIELD=N,…": return ["unknown"]
        case "bash|zsh": return ["bash"]
        default: return word.hasPrefix("--") ? [word] : nil
        }
    }

    private func verb(_ name: String) throws -> Verb {
        let help = try engine.vcpectl(["help", name]).text.split(separator: "\n").map(String.init)
        let usage = try #require(help.first, "\(name)").prefix { $0 != ":" }
        var required: [String] = []
        var optional: [String] = []
        for word in usage.split(separator: " ").dropFirst(2).map(String.init) {
            let isOptional = word.hasPrefix("[") || !optional.isEmpty
            let bare = word.filter { $0 != "[" && $0 != "]" }
            let value = try #require(try value(bare, of: name), "the test has no value for \(word) of \(name)")
            if isOptional { optional += value } else { required += value }
        }
        var options: [[String]] = []
        for line in help.dropFirst() where line.hasPrefix("  -") {
            let words = line.split(separator: " ", omittingEmptySubsequences: false).dropFirst(2).map(String.init)
            guard words.count > 1, words[0] != "--yes" else { continue }
            let value = words[1].isEmpty ? [] : try value(words[1], of: name)
            options.append([words[0]] + (try #require(value, "the test has no value for \(words[1]) of \(name)")))
        }
        let yes = help.contains { $0.hasPrefix("  --yes") } ? ["--yes"] : []
        let words = required.contains("--yes") ? required : required + yes
        return Verb(
            name: name, forms: [words] + (optional.isEmpty ? [] : [words + optional]), options: [[]] + options)
    }

    /// Nothing in it commands a terminal.
    private func check(_ bytes: [UInt8], _ what: String) {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            Issue.record("\(what): invalid UTF-8")
            return
        }
        let hostile = text.unicodeScalars.filter {
            ($0.properties.generalCategory == .control && $0 != "\n") || $0.properties.isBidiControl
        }
        #expect(hostile.isEmpty, "\(what): \(hostile.map { String($0.value, radix: 16) })")
    }

    /// Verbs whose texts have lines of others.
    private static let ofManyLines = ["log", "show", "show-commit", "candidate"]

    @Test func noVerbLetsAValueCommandTheTerminal() throws {
        let names = try engine.vcpectl(["complete", ""]).text.split(separator: "\n").map(String.init)
        #expect(names.count > 35 && names.contains("evil"))
        var (shown, runs) = (0, 0)
        var verbs = try names.filter { $0 != "help" && $0 != "evil" }.map(verb)
        let commands = [["look"], ["look", "x"], ["act"], ["--help"]]
        verbs.append(Verb(name: "evil", forms: commands, options: [[], ["--json"]]))
        verbs.append(Verb(name: "help", forms: [[], ["evil"]], options: [[]]))
        verbs.append(Verb(name: "complete", forms: [["evil", ""], ["evil", "look", ""]], options: [[]]))
        for verb in verbs {
            for form in verb.forms {
                for option in verb.options where option != ["--raw"] {
                    let words = [verb.name] + form + option
                    let result = try engine.vcpectl(words)
                    runs += 1
                    let what = "vcpectl \(words.joined(separator: " "))"
                    check(result.output, what)
                    check(result.errors, what)
                    // --rfc7951 is of a whole document.
                    let isWrong = result.status == 64 && option != ["--rfc7951"]
                    #expect(!isWrong && [0, 1, 64].contains(result.status), "\(what): \(result.errorText)")
                    if !Self.ofManyLines.contains(verb.name) {
                        let lines = result.text.split(separator: "\n")
                        #expect(!lines.contains { $0.hasPrefix(HostileEngine.forged) }, "\(what)")
                    }
                    let isHelp = verb.name == "completion" || form == ["--help"]
                    if option == ["--json"], !result.output.isEmpty, !isHelp {
                        #expect(throws: Never.self, "\(what)") { try JSON.parse(result.output) }
                    } else if result.text.contains("\\x1b") || result.errorText.contains("\\x1b") {
                        shown += 1
                    }
                }
            }
        }
        // The values got as far as the output.
        #expect(shown > 40, "\(shown) of \(runs)")
        #expect(engine.unknown.isEmpty)
    }

    @Test func noErrorCommandsTheTerminal() throws {
        engine.isFailing = true
        for name in try engine.vcpectl(["complete", ""]).text.split(separator: "\n").map(String.init)
        where name != "help" {
            let form = name == "evil" ? ["look"] : try verb(name).forms[0]
            let result = try engine.vcpectl([name] + form)
            check(result.output, name)
            check(result.errors, name)
            if result.status != 0 { #expect(result.errorText.contains("\\x1b]0;p\\x07"), "\(name)") }
        }
    }

    @Test func aLogsBytesAreThereForWhoAsksForThem() throws {
        #expect(try engine.vcpectl(["log", "provider", "--raw"]).output == HostileEngine.log)
        #expect(try engine.vcpectl(["log", "provider"]).text == "a\\x1b[2J\\u{202e}\\xff\n")
    }
}
