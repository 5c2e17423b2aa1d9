import Engine
import Files
import Glibc
import PluginKit

/// `vcpectl`: the operator's command.
enum ControlCommand {
    private static let help = """
        vcpectl: looks at the box and changes it.

          vcpectl status               what the box follows, and whether anything is wrong
          vcpectl show                 the site document
          vcpectl plan [FILE]          what the box has; with a document, what it would change
          vcpectl plan --nftables      the packet filter, as nft -j -f takes it
          vcpectl apply FILE           follow another document; it is kept when all of it could be applied
            --confirm TIME             unless vcpectl confirm comes within 90s, 10m or 2h, or the box is restarted
                                       before, what stood is put back; once more, it gives more time
            --comment TEXT             why, for the history
          vcpectl confirm              the last commit stands
          vcpectl history              the last 50 commits: who, when, why
          vcpectl show-commit N        the document of one
          vcpectl rollback N           follow it again; takes --confirm too
          vcpectl services             what PID 1 runs
          vcpectl start|stop|restart NAME
          vcpectl log [NAME]           what a service has said; without a name, which have said something
          vcpectl counters             what named counters have counted

        --json, behind any of them, gives JSON. FILE may be - for standard input.
        Exit codes: 0 done, 1 failed, 64 wrong usage.

        """

    static func run(_ arguments: [String]) -> Int32 {
        let asJSON = arguments.contains("--json")
        do {
            var words = arguments.filter { $0 != "--json" }
            let confirm = try option("--confirm", &words).map(seconds)
            let comment = try option("--comment", &words)
            var settings: [String: JSON] = [:]
            if let confirm { settings["confirm"] = .integer(confirm) }
            if let comment { settings["comment"] = .text(comment) }
            guard settings.isEmpty || ["apply", "rollback"].contains(words.first) else {
                throw EngineError("--confirm and --comment belong to apply and rollback")
            }
            switch (words.first, words.count) {
            case ("status", 1): try status(asJSON)
            case ("show", 1): try ask(["do": "show"], asJSON) { say($0["site"]?.text ?? "") }
            case ("plan", 1):
                try ask(["do": "plan"], asJSON) { ($0["lines"]?.list ?? []).forEach { say(($0.text ?? "") + "\n") } }
            case ("plan", 2) where words[1] == "--nftables":
                try ask(["do": "plan"], false) { say(($0["nftables"] ?? .null).line + "\n") }
            case ("plan", 2): try plan(words[1], asJSON)
            case ("apply", 2): try apply(words[1], settings, asJSON)
            case ("confirm", 1):
                try ask(["do": "confirm"], asJSON) { say("commit \($0["commit"]?.integer ?? 0) stands\n") }
            case ("history", 1): try history(asJSON)
            case ("show-commit", 2):
                try ask(["do": "commit", "number": .integer(try number(words[1]))], asJSON) {
                    say($0["site"]?.text ?? "")
                }
            case ("rollback", 2):
                settings["do"] = "rollback"
                settings["number"] = .integer(try number(words[1]))
                try ask(.object(settings), asJSON) { sayCommitted($0) }
            case ("services", 1): try services(asJSON)
            case ("start", 2), ("stop", 2), ("restart", 2): try tellInit(words)
            case ("log", 1): try logs(asJSON)
            case ("log", 2): try log(words[1])
            case ("counters", 1): try counters(asJSON)
            case ("--help", _), ("help", _): say(help)
            default:
                Log.say(help)
                return 64
            }
            return 0
        } catch {
            Log.say("\(error)")
            return 1
        }
    }

    private static func say(_ text: String) {
        var text = text
        text.withUTF8 { _ = Glibc.write(1, $0.baseAddress, $0.count) }
    }

    private static func ask(_ request: JSON, _ asJSON: Bool, _ show: (JSON) -> Void) throws {
        let answer = try EngineClient().ask(request)
        if let error = answer["error"]?.text { throw EngineError(error) }
        if asJSON { say(answer.pretty) } else { show(answer) }
    }

    private static func status(_ asJSON: Bool) throws {
        try ask(["do": "status"], asJSON) { answer in
            say("site:      \(answer["site"]?.text ?? "")\nresources: \(answer["resources"]?.integer ?? 0)\n")
            if let left = answer["put-back-in"]?.integer { say("confirm:   within \(left) s, or it is put back\n") }
            if let damage = answer["damage"]?.text { say("damage:    \(damage)\n") }
            say(answer["trouble"]?.text.map { "trouble:   \($0)\n" } ?? "all is applied\n")
        }
    }

    private static func read(_ path: String) throws -> String {
        let bytes: [UInt8]
        if path == "-" {
            var all: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 1 << 16)
            while case let count = Glibc.read(0, &buffer, buffer.count), count > 0 { all += buffer[..<count] }
            bytes = all
        } else {
            bytes = try FileSystem.read(path)
        }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw EngineError("\(path) is not UTF-8") }
        return text
    }

    private static func plan(_ path: String, _ asJSON: Bool) throws {
        try ask(["do": "plan", "site": .text(try read(path)), "name": .text(path)], asJSON) { answer in
            for line in answer["warnings"]?.list ?? [] { say("\(line.text ?? "")\n") }
            for line in answer["removed"]?.list ?? [] { say("- \(line.text ?? "")\n") }
            for line in answer["added"]?.list ?? [] { say("+ \(line.text ?? "")\n") }
        }
    }

    private static func apply(_ path: String, _ settings: [String: JSON], _ asJSON: Bool) throws {
        let request: [String: JSON] = ["do": "apply", "site": .text(try read(path)), "name": .text(path)]
        try ask(.object(request.merging(settings) { $1 }), asJSON) { sayCommitted($0) }
    }

    private static func sayCommitted(_ answer: JSON) {
        for line in answer["warnings"]?.list ?? [] { say("\(line.text ?? "")\n") }
        let (added, removed) = (answer["added"]?.integer ?? 0, answer["removed"]?.integer ?? 0)
        say("commit \(answer["commit"]?.integer ?? 0) is applied: \(added) lines came, \(removed) went\n")
    }

    private static func number(_ text: String) throws -> Int {
        guard let number = Int(text), number > 0 else { throw EngineError("\"\(text)\" is no commit's number") }
        return number
    }

    /// Takes an option and its value out of the words.
    private static func option(_ name: String, _ words: inout [String]) throws -> String? {
        guard let i = words.firstIndex(of: name) else { return nil }
        guard i + 1 < words.count else { throw EngineError("\(name) wants a value") }
        let value = words[i + 1]
        words.removeSubrange(i...i + 1)
        return value
    }

    /// `90`, `90s`, `10m`, `2h`.
    private static func seconds(_ text: String) throws -> Int {
        let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600]
        let unit = text.last.flatMap { units[$0] }
        guard let number = Int(unit == nil ? text : String(text.dropLast())), (1...86_400).contains(number) else {
            throw EngineError("\"\(text)\" is no time; 90s, 10m and 2h are")
        }
        return number * (unit ?? 1)
    }

    private static func history(_ asJSON: Bool) throws {
        try ask(["do": "history"], asJSON) { answer in
            say("  N  WHEN (UTC)        WHO         +    -  STANDS    WHY\n")
            for commit in answer["commits"]?.list ?? [] {
                func text(_ key: String) -> String { commit[key]?.text ?? String(commit[key]?.integer ?? 0) }
                func right(_ text: String, _ width: Int) -> String {
                    String(repeating: " ", count: max(0, width - text.count)) + text
                }
                func left(_ text: String, _ width: Int) -> String {
                    text + String(repeating: " ", count: max(1, width - text.count))
                }
                var seconds = time_t(commit["time"]?.integer ?? 0)
                var parts = tm()
                gmtime_r(&seconds, &parts)
                var buffer = [CChar](repeating: 0, count: 32)
                strftime(&buffer, buffer.count, "%Y-%m-%d %H:%M", &parts)
                let time = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
                say(
                    "\(right(text("number"), 3))  \(time)  \(left(text("user"), 8))\(right(text("added"), 5))"
                        + "\(right(text("removed"), 5))  \(left(commit["stands"]?.text ?? "", 10))\(text("comment"))\n")
            }
        }
    }

    private static func tellInit(_ words: [String]) throws {
        let answer = try InitClient().ask(words.joined(separator: " "))
        guard answer == "ok\n" else {
            throw EngineError("PID 1: \(answer.split(separator: "\n").joined(separator: "; "))")
        }
    }

    private static func services(_ asJSON: Bool) throws {
        let answer = try InitClient().ask("status")
        // A line a service: name, state, pid, restarts, memory, words for people.
        let rows = answer.split(separator: "\n").filter { $0 != "ok" }.map {
            $0.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
        }
        if asJSON {
            return say(
                JSON.list(
                    rows.filter { $0.count >= 6 }.map { row in
                        [
                            "name": .text(row[0]), "state": .text(row[1]), "pid": .integer(Int(row[2]) ?? 0),
                            "restarts": .integer(Int(row[3]) ?? 0), "memory": .integer(Int(row[4]) ?? 0),
                            "status": .text(row[5]),
                        ]
                    }
                ).pretty)
        }
        func pad(_ text: String, _ width: Int) -> String {
            text + String(repeating: " ", count: max(1, width - text.count))
        }
        say(pad("SERVICE", 24) + pad("STATE", 10) + pad("PID", 8) + pad("RESTARTS", 10) + pad("MEMORY", 10) + "\n")
        for row in rows where row.count >= 6 {
            let memory = Int(row[4]).map { $0 > 0 ? "\($0 / 1000) kB" : "" } ?? ""
            say(pad(row[0], 24) + pad(row[1], 10) + pad(row[2], 8) + pad(row[3], 10) + pad(memory, 10) + row[5] + "\n")
        }
    }

    private static let logFolder = "/run/log"

    private static func logs(_ asJSON: Bool) throws {
        let names = try FileSystem.list(logFolder).filter { !$0.hasSuffix(".1") }
        if asJSON { return say(JSON.texts(names).pretty) }
        for name in names { say(name + "\n") }
    }

    private static func log(_ name: String) throws {
        guard !name.contains("/"), FileSystem.exists("\(logFolder)/\(name)") else {
            throw EngineError("there is no log \(name); vcpectl log lists them")
        }
        for file in ["\(logFolder)/\(name).1", "\(logFolder)/\(name)"] where FileSystem.exists(file) {
            say(String(decoding: try FileSystem.read(file), as: UTF8.self))
        }
    }

    private static func counters(_ asJSON: Bool) throws {
        try ask(["do": "counters"], asJSON) { answer in
            for (name, value) in (answer.object ?? [:]).sorted(by: { $0.key < $1.key }) {
                let packets = String(value["packets"]?.integer ?? 0)
                say(String(repeating: " ", count: max(0, 12 - packets.count)) + "\(packets)  \(name)\n")
            }
        }
    }
}
