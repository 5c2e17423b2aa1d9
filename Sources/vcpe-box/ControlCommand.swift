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
          vcpectl services             what PID 1 runs
          vcpectl start|stop|restart NAME
          vcpectl log [NAME]           what a service has said; without a name, which have said something
          vcpectl counters             what named counters have counted

        --json, behind any of them, gives JSON. FILE may be - for standard input.
        Exit codes: 0 done, 1 failed, 64 wrong usage.

        """

    static func run(_ arguments: [String]) -> Int32 {
        let asJSON = arguments.contains("--json")
        let words = arguments.filter { $0 != "--json" }
        do {
            switch (words.first, words.count) {
            case ("status", 1): try status(asJSON)
            case ("show", 1): try ask(["do": "show"], asJSON) { say($0["site"]?.text ?? "") }
            case ("plan", 1):
                try ask(["do": "plan"], asJSON) { ($0["lines"]?.list ?? []).forEach { say(($0.text ?? "") + "\n") } }
            case ("plan", 2) where words[1] == "--nftables":
                try ask(["do": "plan"], false) { say(($0["nftables"] ?? .null).line + "\n") }
            case ("plan", 2): try plan(words[1], asJSON)
            case ("apply", 2): try apply(words[1], asJSON)
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

    private static func apply(_ path: String, _ asJSON: Bool) throws {
        try ask(["do": "apply", "site": .text(try read(path)), "name": .text(path)], asJSON) { answer in
            for line in answer["warnings"]?.list ?? [] { say("\(line.text ?? "")\n") }
            say("applied: \(answer["added"]?.integer ?? 0) lines came, \(answer["removed"]?.integer ?? 0) went\n")
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
