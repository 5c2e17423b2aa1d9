import Documents
import Engine
import Files
import Glibc
import PluginKit
import Terminals

/// `vcpectl`: the operator's command. Its verbs are values in `Verbs.swift` and beside it; plugins bring more.
enum ControlCommand {
    /// - Returns: the exit code: 0, 1 for what failed, 64 for wrong usage.
    static func run(_ arguments: [String]) -> Int32 {
        do {
            try dispatch(arguments)
            return 0
        } catch let usage as WrongUsage {
            Log.say("\(usage)")
            return 64
        } catch {
            Log.say("\(error)")
            return 1
        }
    }

    private static func dispatch(_ arguments: [String]) throws {
        guard let name = arguments.first else { throw WrongUsage(overview) }
        // A shell's -c: what sshd(8) was asked to run.
        if name == "-c", arguments.count == 2 {
            let words = try Shell.words(of: arguments[1])
            let session = try EngineClient().session(command: words.first { $0 != "vcpectl" })
            defer { withExtendedLifetime(session) {} }
            return try dispatch(words)
        }
        if ["--help", "-h", "help"].contains(name) {
            guard arguments.count > 1 else { return Terminal.say(overview) }
            return Terminal.say(try help(of: arguments[1]))
        }
        if name == "complete" { return Completion.run(Array(arguments.dropFirst())) }
        guard let verb = verbs.first(where: { $0.name == name }) else { return try PluginVerb.run(arguments) }
        if arguments.contains("--help") { return Terminal.say(verb.help) }
        try verb.run(try Invocation(verb, Array(arguments.dropFirst())))
    }

    private static func help(of name: String) throws -> String {
        if let verb = verbs.first(where: { $0.name == name }) { return verb.help }
        return try PluginVerb.help(of: name)
    }

    /// All verbs of vcpectl's own, in the order of the overview.
    static let verbs: [Verb] = [
        LookingVerbs.all, ConfigurationVerbs.all, CommitVerbs.all, FeedVerbs.all, ServiceVerbs.all, UpgradeVerbs.all,
        DiskVerbs.all, AuditVerb.all, SupportVerbs.all,
    ].flatMap { $0 }

    private static var overview: String {
        var text = "vcpectl: looks at the box and changes it.\n"
        for group in Verb.Group.allCases {
            text += "\n\(group.rawValue)\n"
            for verb in verbs where verb.group == group {
                text += "  \(TextTable.left(verb.usage, 30)) \(verb.summary)\n"
            }
        }
        let plugins = (try? PluginVerb.all()) ?? []
        if !plugins.isEmpty { text += "\nOf the plugins:\n" }
        for command in plugins {
            let words = "  \(TextTable.left("\(command.plugin) \(command.usage)", 30)) \(command.command.summary)"
            text += TerminalText.line(words) + "\n"
        }
        return text + """

            --json, behind any of them, gives JSON; vcpectl help VERB says more. FILE may be - for standard input; PATH is as
            errors have it, such as firewall.rules[2].action, or by an item's name, firewall.rules[web].action.
            Exit codes: 0 done, 1 failed, 64 wrong usage.

            """
    }
}

/// A verb of vcpectl.
struct Verb: Sendable {
    enum Group: String, CaseIterable {
        case looking = "Looking:"
        case configuration = "The candidate configuration:"
        case commits = "Commits:"
        case feeds = "Lists that are filled beside the configuration:"
        case services = "Services:"
        case upgrade = "Releases:"
        case support = "Help:"
    }

    struct Option: Sendable {
        var name: String
        /// What it takes; nil for a flag.
        var value: String?
        var summary: String
    }

    var name: String
    var group: Group
    /// With its arguments, as `rollback N`.
    var usage: String
    var summary: String
    /// What `--help` teaches beyond that.
    var details = ""
    /// How many words it takes.
    var words: ClosedRange<Int> = 0...0
    var options: [Option] = []
    var run: @Sendable (Invocation) throws -> Void

    var help: String {
        var text = "vcpectl \(usage): \(summary)\n"
        if !details.isEmpty { text += "\n\(details)\n" }
        let all = options + [Option(name: "--json", value: nil, summary: "JSON, for programs")]
        text += "\n"
        for option in all {
            text +=
                "  \(TextTable.left(([option.name] + [option.value].compactMap { $0 }).joined(separator: " "), 22)) "
                + "\(option.summary)\n"
        }
        return text
    }
}

/// What was said to a verb.
struct Invocation {
    let words: [String]
    private let values: [String: String]
    private let flags: Set<String>
    let asJSON: Bool

    init(_ verb: Verb, _ arguments: [String]) throws {
        var (words, values, flags): ([String], [String: String], Set<String>) = ([], [:], [])
        var rest = arguments[...]
        while let word = rest.popFirst() {
            // A path may begin with anything but a hyphen; "-" is standard input.
            guard word.hasPrefix("-"), word != "-", word != "--json" else {
                if word == "--json" { flags.insert(word) } else { words.append(word) }
                continue
            }
            guard let option = verb.options.first(where: { $0.name == word }) else {
                let meant = didYouMean(word, among: verb.options.map(\.name)).map { "did you mean \($0)?\n" } ?? ""
                throw WrongUsage("\(verb.name) knows no \(word)\n\(meant)\(verb.help)")
            }
            guard option.value != nil else {
                flags.insert(word)
                continue
            }
            guard let value = rest.popFirst() else { throw WrongUsage("\(word) wants a value\n\(verb.help)") }
            values[word] = value
        }
        guard verb.words.contains(words.count) else { throw WrongUsage(verb.help) }
        (self.words, self.values, self.flags, asJSON) = (words, values, flags, flags.contains("--json"))
    }

    subscript(option: String) -> String? { values[option] }
    func has(_ flag: String) -> Bool { flags.contains(flag) }

    /// What every commit takes.
    static let commitOptions = [
        Verb.Option(
            name: "--confirm", value: "TIME",
            summary: "unless vcpectl confirm comes within 90s, 10m or 2h, it is rolled back"),
        Verb.Option(name: "--comment", value: "TEXT", summary: "why, for the history"), documentOption,
    ]

    /// Which of a box's documents is meant.
    static let documentOption = Verb.Option(
        name: "--document", value: "NAME", summary: "provider or customer; without it, the one that your role works on")

    /// A request that names the document, if one was named.
    func request(_ verb: String, _ more: [String: JSON] = [:]) -> [String: JSON] {
        var request = more
        request["do"] = .text(verb)
        if let name = self["--document"] { request["document"] = .text(name) }
        return request
    }

    /// The settings of a commit, for the engine.
    func commitSettings() throws -> [String: JSON] {
        var settings: [String: JSON] = [:]
        if let text = self["--confirm"] { settings["confirm"] = .integer(try Self.seconds(text)) }
        if let text = self["--comment"] { settings["comment"] = .text(text) }
        return settings
    }

    /// `90`, `90s`, `10m`, `2h`.
    static func seconds(_ text: String) throws -> Int {
        let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600]
        let unit = text.last.flatMap { units[$0] }
        guard let number = Int(unit == nil ? text : String(text.dropLast())), (1...86_400).contains(number) else {
            throw WrongUsage("\"\(text)\" is no time; 90s, 10m and 2h are")
        }
        return number * (unit ?? 1)
    }

    func number(_ index: Int) throws -> Int {
        guard let number = Int(words[index]), number > 0 else {
            throw WrongUsage("\"\(words[index])\" is no commit's number; vcpectl history lists them")
        }
        return number
    }

    /// Asks the engine, and shows its answer.
    func ask(_ request: JSON, _ show: (JSON) throws -> Void) throws {
        let answer = try EngineClient().answer(to: request)
        if asJSON { Terminal.say(answer.pretty) } else { try show(answer) }
    }
}

/// A command that is none: what would be one.
struct WrongUsage: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) { self.description = description }
}

extension EngineClient {
    /// - Throws: what the engine has against it.
    func answer(to request: JSON) throws -> JSON {
        let answer = try ask(request)
        if let error = answer["error"]?.text { throw EngineError(error) }
        return answer
    }
}

/// What people read, on standard output. JSON passes as it is: it is written without what would be
/// escaped.
enum Terminal {
    /// Writes a text of several lines.
    static func say(_ text: String) { write(TerminalText.lines(text)) }

    /// False when the reader of standard output has gone: sshd closes a pipe without a signal.
    static var isRead: Bool {
        var polled = pollfd(fd: 1, events: 0, revents: 0)
        return poll(&polled, 1, 0) <= 0 || polled.revents & Int16(POLLERR | POLLHUP | POLLNVAL) == 0
    }

    /// Writes one line.
    static func line(_ text: String) { write(TerminalText.line(text) + "\n") }

    /// Writes bytes as they are, for callers that ask for them.
    static func write(raw bytes: [UInt8]) { bytes.withUnsafeBufferPointer(write) }

    /// Writes a text that may move the cursor: all that comes from outside must be escaped in it.
    static func write(_ text: String) {
        var text = text
        text.withUTF8(write)
    }

    private static func write(_ bytes: UnsafeBufferPointer<UInt8>) {
        var done = 0
        while done < bytes.count {
            let count = Glibc.write(1, bytes.baseAddress.map { $0 + done }, bytes.count - done)
            if count < 0, errno == EINTR { continue }
            if count <= 0 { return }
            done += count
        }
    }

    static func warn(_ answer: JSON) { for line in answer["warnings"]?.list ?? [] { Log.say(line.text ?? "") } }

    /// A file's text, or that of standard input.
    ///
    /// - Parameters:
    ///   - request: the request that the text is for; a user without the role gets the error before
    ///     any byte is read.
    ///   - limit: bytes that are read at most: a session's memory is not the box's to spend.
    static func read(_ path: String, for request: String, limit: Int = 4 << 20) throws -> String {
        try EngineClient().demand(request)
        let file = path == "-" ? nil : try File(path)
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while bytes.count <= limit {
            let count = Glibc.read(file?.descriptor ?? 0, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            if count < 0 { throw SystemError("read", path) }
            if count == 0 { break }
            bytes += buffer[..<count]
        }
        guard bytes.count <= limit else {
            throw EngineError("\(path) has more bytes than the \(limit) that are allowed")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw EngineError("\(path) is not UTF-8") }
        return text
    }
}
