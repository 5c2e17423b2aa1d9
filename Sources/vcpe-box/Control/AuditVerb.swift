import Documents
import Engine
import Glibc

/// The verb of the audit log.
enum AuditVerb {
    static let all: [Verb] = [
        Verb(
            name: "audit", group: .looking, usage: "audit",
            summary: "what changed the box, and what was refused; for administrators",
            details: """
                Requests that changed something or were refused, logins and logouts, sticks, upgrades, factory resets and
                restarts, oldest first. A record with a number behind x stands for so many (docs/audit.md).

                  vcpectl audit --user rita --outcome refused --since 24h
                """,
            options: [
                .init(name: "--user", value: "USER", summary: "of one user"),
                .init(name: "--what", value: "NAME", summary: "of one kind, such as login, commit or upgrade"),
                .init(name: "--outcome", value: "OUTCOME", summary: "done, refused or failed"),
                .init(name: "--since", value: "TIME", summary: "of the last 90s, 10m or 24h"),
                .init(name: "--most", value: "N", summary: "so many, the newest; 100"),
                .init(name: "-f", value: nil, summary: "goes on with what comes"),
            ], run: run)
    ]

    @Sendable private static func run(_ call: Invocation) throws {
        var request: [String: JSON] = ["do": "audit"]
        for key in ["user", "what", "outcome"] { request[key] = call["--\(key)"].map { .text($0) } }
        if let time = call["--since"] { request["since"] = .integer(Glibc.time(nil) - (try Invocation.seconds(time))) }
        if let text = call["--most"] {
            guard let most = Int(text) else { throw WrongUsage("--most: \"\(text)\" is no number") }
            request["most"] = .integer(most)
        }
        while true {
            let answer = try EngineClient().answer(to: .object(request))
            let records = answer["records"]?.list ?? []
            if call.asJSON {
                if call.has("-f") {
                    for record in records { Terminal.line(record.line) }
                } else {
                    Terminal.say(JSON.list(records).pretty)
                }
            } else {
                for record in records { show(record) }
            }
            guard call.has("-f"), Terminal.isRead else { return }
            request["after"] = answer["next"]
            usleep(500_000)
        }
    }

    /// A line each: a table would cut what matters.
    private static func show(_ record: JSON) {
        let role = record["role"]?.text.map { " (\($0))" } ?? ""
        let origin = record["origin"]?.text.map { " from \($0)" } ?? ""
        let count = record["count"]?.integer.map { " x\($0)" } ?? ""
        let details = record["details"]?.text.map { " \($0)" } ?? ""
        let reason = record["reason"]?.text.map { ": \($0)" } ?? ""
        Terminal.line(
            "\(UTC.text(of: record["time"]?.integer ?? 0)) \(record["user"]?.text ?? "")\(role)\(origin): "
                + "\(record["what"]?.text ?? "")\(details) \(record["outcome"]?.text ?? "")\(count)\(reason)")
    }
}
