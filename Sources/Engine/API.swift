import Documents
import Glibc
import PluginKit

extension Engine {
    /// Answers one request of the local socket (`docs/api.md`).
    ///
    /// - Parameter caller: who asks, by the socket's own word.
    func answer(_ request: JSON, from caller: uid_t) -> JSON {
        guard caller == 0 || caller == geteuid() else {
            return ["error": "only root may ask the engine"]
        }
        do {
            let verb = request["do"]?.text ?? ""
            guard let answer = Self.verbs[verb] else {
                throw EngineError.unknown("request", verb, Array(Self.verbs.keys))
            }
            return try answer(self, Request(json: request, user: Self.name(of: caller)))
        } catch {
            return ["error": .text("\(error)")]
        }
    }

    /// What is asked, and by whom.
    struct Request {
        let json: JSON
        let user: String

        var name: String { json["name"]?.text ?? "site" }
        var comment: String { json["comment"]?.text ?? "" }

        func text(_ key: String) throws -> String {
            guard let text = json[key]?.text else { throw EngineError("the request wants the text \"\(key)\"") }
            return text
        }

        func number(_ key: String) throws -> Int {
            guard let number = json[key]?.integer else { throw EngineError("the request wants the number \"\(key)\"") }
            return number
        }

        /// How long a commit waits for its confirmation, at most a day; nil when it needs none.
        func confirm() throws -> Int? {
            guard let value = json["confirm"] else { return nil }
            guard let seconds = value.integer, (1...86_400).contains(seconds) else {
                throw EngineError("confirm is a number of seconds from 1 to 86400, found \(value.line)")
            }
            return seconds
        }

        func words() -> [String] { (json["arguments"]?.list ?? []).compactMap(\.text) }
    }

    private static let verbs: [String: @Sendable (Engine, Request) throws -> JSON] = [
        "status": { engine, _ in engine.status },
        "health": { engine, _ in ["probes": engine.probes.json] },
        "show": { engine, _ in ["site": .text(engine.shown(engine.siteText)), "name": .text(engine.siteName)] },
        "plan": { engine, request in
            guard request.json["site"] != nil else {
                return ["lines": .texts(engine.planLines), "nftables": engine.rulesetDocument]
            }
            return try engine.check(try request.text("site"), name: request.name)
        },
        "apply": { engine, request in
            Engine.answer(
                try engine.commit(
                    try engine.meant(try request.text("site"), name: request.name), name: request.name,
                    user: request.user, comment: request.comment, confirm: try request.confirm()))
        },
        "confirm": { engine, _ in ["commit": .integer(try engine.confirm())] },
        "history": { engine, _ in ["commits": engine.history()] },
        "show-commit": { engine, request in
            let commit = try engine.store.commit(try request.number("number"))
            var entries = commit.json.object ?? [:]
            entries["site"] = .text(engine.shown(commit.site))
            entries["diff"] = .texts(engine.changes(of: commit))
            return .object(entries)
        },
        "rollback": { engine, request in
            Engine.answer(
                try engine.rollBack(
                    to: try request.number("number"), user: request.user, confirm: try request.confirm()))
        },
        "candidate": { engine, _ in
            ["site": .text(engine.shown(engine.candidateText))]
        },
        "edit": { engine, request in
            try engine.edit(request.json["edits"]?.list ?? [], user: request.user)
            return [:]
        },
        "load": { engine, request in
            try engine.setCandidate(
                try engine.meant(try request.text("site"), name: request.name, isCandidate: true), user: request.user)
            return [:]
        },
        "discard": { engine, _ in
            try engine.discardCandidate()
            return [:]
        },
        "diff": { engine, request in
            [
                "lines": .texts(
                    try engine.difference(from: request.json["from"]?.integer, to: request.json["to"]?.integer))
            ]
        },
        "check": { engine, _ in try engine.check(engine.candidateText, name: "candidate") },
        "commit": { engine, request in
            Engine.answer(
                try engine.commitCandidate(
                    user: request.user, comment: request.comment, confirm: try request.confirm(),
                    isForced: request.json["force"] == .boolean(true)))
        },
        "commands": { engine, _ in ["commands": engine.operatorCommands] },
        "values": { engine, request in
            [
                "values": .texts(
                    try engine.values(
                        of: try request.number("argument"), plugin: try request.text("plugin"),
                        command: try request.text("command")))
            ]
        },
        "run": { engine, request in
            try engine.run(
                try request.text("plugin"), try request.text("command"), request.words(), user: request.user)
        },
        "explain": { engine, request in ["rules": .list(try engine.explain(try request.text("text")))] },
        "counters": { engine, _ in try engine.counters() },
        "lease": { engine, _ in
            engine.followFacts()
            return [:]
        },
    ]

    private var status: JSON {
        .object([
            "site": .text(siteName), "trouble": trouble.map { .text($0) },
            "resources": .integer(applied.plan.ordered.count),
            "commit": followed.map { .integer($0) },
            "put-back-in": revertAt.map { .integer(max(0, $0 - Uptime.milliseconds) / 1000) },
            "probation": probation.map { .texts($0.probes.keys.sorted()) },
            "put-back": lastRevert.map { .text($0) }, "drift": drift.found.isEmpty ? nil : .texts(drift.found),
            "damage": damage.map { .text($0) },
        ])
    }

    private func check(_ text: String, name: String) throws -> JSON {
        let planned = try plan(try meant(text, name: name), name: name)
        return [
            "added": .texts(planned.added), "removed": .texts(planned.removed),
            "warnings": .texts(planned.plan.warnings + planned.plan.absent),
        ]
    }

    static func answer(_ done: Committed) -> JSON {
        [
            "commit": .integer(done.number), "added": .integer(done.added), "removed": .integer(done.removed),
            "warnings": .texts(done.warnings), "probation": .texts(done.probation),
        ]
    }

    private static func name(of user: uid_t) -> String {
        getpwuid(user).map { String(cString: $0.pointee.pw_name) } ?? "user \(user)"
    }
}
