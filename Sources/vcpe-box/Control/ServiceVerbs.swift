import Documents
import Engine
import Glibc

/// What PID 1 knows of services, and what they have said. Root needs no engine for it, others have only that.
enum Supervision {
    private static var isRoot: Bool { geteuid() == 0 }

    static func services() throws -> [JSON] {
        if isRoot { return try InitClient().services().map(\.json) }
        return try EngineClient().answer(to: ["do": "services"])["services"]?.list ?? []
    }

    static func tell(_ deed: String, _ name: String) throws {
        if isRoot { return try InitClient().tell("\(deed) \(name)") }
        _ = try EngineClient().answer(to: ["do": "service", "deed": .text(deed), "name": .text(name)])
    }

    static func restartBox(_ deed: String) throws {
        if isRoot { return try InitClient().tell(deed) }
        _ = try EngineClient().answer(to: ["do": "power", "deed": .text(deed)])
    }

    static func logs() throws -> [String] {
        if isRoot { return ServiceLogs().names }
        return (try EngineClient().answer(to: ["do": "logs"])["logs"]?.list ?? []).compactMap(\.text)
    }

    /// - Parameter place: where an earlier answer ended, by its own word.
    static func log(
        _ name: String, from place: String? = nil, isRaw: Bool = false
    ) throws -> (text: String, next: String?) {
        let answer =
            isRoot
            ? try ServiceLogs().read(name, from: place, isRaw: isRaw)
            : try EngineClient().answer(
                to: .object([
                    "do": "log", "name": .text(name), "from": place.map { .text($0) }, "raw": .boolean(isRaw),
                ]))
        return (answer["text"]?.text ?? "", answer["next"]?.text)
    }
}

/// Verbs of what PID 1 runs.
enum ServiceVerbs {
    static let all: [Verb] =
        [
            Verb(name: "services", group: .services, usage: "services", summary: "what PID 1 runs") { call in
                let services = try Supervision.services()
                if call.asJSON { return Terminal.say(JSON.list(services).pretty) }
                let rows = services.map { service -> [JSON] in
                    let memory = service["memory"]?.integer ?? 0
                    return ["name", "state", "pid", "restarts"].map { service[$0] ?? .null }
                        + [.text(memory > 0 ? "\(memory / 1000) kB" : ""), service["status"] ?? ""]
                }
                let columns = ["service", "state", "pid", "restarts", "memory", "says"]
                Terminal.say(TextTable(columns: columns, rows: rows).text)
            }
        ]
        + [
            ("start", "a stopped service"), ("stop", "a service, until the next start"),
            ("restart", "a service"),
        ]
        .map { name, summary in
            Verb(
                name: name, group: .services, usage: "\(name) NAME", summary: "\(name) \(summary)", words: 1...1
            ) { call in try Supervision.tell(name, call.words[0]) }
        }
        + [("reboot", "restart the box, in order"), ("poweroff", "end it, in order")].map { name, summary in
            Verb(name: name, group: .services, usage: name, summary: summary) { _ in
                try Supervision.restartBox(name)
            }
        }
        + [
            Verb(
                name: "log", group: .services, usage: "log [NAME]",
                summary: "what a service has said; without a name, which have",
                words: 0...1,
                options: [
                    .init(name: "-f", value: nil, summary: "goes on with what comes"),
                    .init(
                        name: "--raw", value: nil,
                        summary: "the bytes as the service wrote them; a terminal obeys what they contain"),
                ]
            ) { call in
                guard let name = call.words.first else { return try logs(call.asJSON) }
                try log(name, call)
            }
        ]

    private static func logs(_ asJSON: Bool) throws {
        let names = try Supervision.logs()
        if asJSON { return Terminal.say(JSON.texts(names).pretty) }
        for name in names { Terminal.line(name) }
    }

    private static func log(_ name: String, _ call: Invocation) throws {
        let isRaw = call.has("--raw")
        var place: String?
        while true {
            let part = try Supervision.log(name, from: place, isRaw: isRaw)
            if isRaw {
                Terminal.write(raw: ServiceLogs.bytes(of: part.text))
            } else if call.asJSON {
                Terminal.line(JSON.object(["text": .text(part.text)]).line)
            } else {
                Terminal.say(part.text)
            }
            guard call.has("-f"), Terminal.isRead else { return }
            place = part.next
            usleep(200_000)
        }
    }
}
