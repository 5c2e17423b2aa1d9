import Documents
import Engine
import Files
import Glibc

/// Verbs of what PID 1 runs.
enum ServiceVerbs {
    static let all =
        [
            Verb(name: "services", group: .services, usage: "services", summary: "what PID 1 runs") { call in
                let services = try InitClient().services()
                if call.asJSON { return Terminal.say(JSON.list(services.map(\.json)).pretty) }
                let rows = services.map { service -> [JSON] in
                    [
                        .text(service.name), .text(service.state), .integer(service.pid), .integer(service.restarts),
                        .text(service.memory > 0 ? "\(service.memory / 1000) kB" : ""), .text(service.status),
                    ]
                }
                let columns = ["service", "state", "pid", "restarts", "memory", "says"]
                Terminal.say(TextTable(columns: columns, rows: rows).text)
            }
        ]
        + [
            ("start", "a service that stands still"), ("stop", "a service, until the next start"),
            ("restart", "a service"),
        ]
        .map { name, summary in
            Verb(
                name: name, group: .services, usage: "\(name) NAME", summary: "\(name) \(summary)", words: 1...1
            ) { call in try InitClient().tell("\(name) \(call.words[0])") }
        }
        + [
            Verb(
                name: "log", group: .services, usage: "log [NAME]",
                summary: "what a service has said; without a name, which have",
                words: 0...1, options: [.init(name: "-f", value: nil, summary: "goes on with what comes")]
            ) { call in
                guard let name = call.words.first else { return try logs(call.asJSON) }
                try log(name, isFollowed: call.has("-f"))
            }
        ]

    static let logFolder = "/run/log"

    static var logNames: [String] {
        ((try? FileSystem.list(logFolder)) ?? []).filter { !$0.hasSuffix(".1") }
    }

    private static func logs(_ asJSON: Bool) throws {
        if asJSON { return Terminal.say(JSON.texts(logNames).pretty) }
        for name in logNames { Terminal.say(name + "\n") }
    }

    private static func log(_ name: String, isFollowed: Bool) throws {
        guard logNames.contains(name) else {
            let meant = didYouMean(name, among: logNames).map { "did you mean \($0)? " } ?? ""
            throw EngineError("there is no log \(name); \(meant)vcpectl log lists them")
        }
        let path = "\(logFolder)/\(name)"
        for file in ["\(path).1", path] where FileSystem.exists(file) {
            Terminal.say(String(decoding: try FileSystem.read(file), as: UTF8.self))
        }
        guard isFollowed else { return }
        var (file, place) = (try File(path), try File(path).status().st_size)
        while true {
            usleep(200_000)
            let status = try? File(path).status()
            // PID 1 begins a new file when one is full.
            if let status, status.st_ino != (try file.status()).st_ino { (file, place) = (try File(path), 0) }
            let size = try file.status().st_size
            guard size > place else { continue }
            Terminal.say(String(decoding: try file.read(Int(size - place), at: Int(place)), as: UTF8.self))
            place = size
        }
    }
}
