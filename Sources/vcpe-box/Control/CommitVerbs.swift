import Documents
import Engine
import Glibc

/// Verbs of commits.
enum CommitVerbs {
    static let all: [Verb] = [
        Verb(
            name: "apply", group: .commits, usage: "apply FILE",
            summary: "follow a document, as one commit: all of it, or nothing", words: 1...1,
            options: Invocation.commitOptions
        ) { call in
            let file = call.words[0]
            try commit("apply", ["site": .text(try Terminal.read(file, for: "apply")), "name": .text(file)], call)
        },
        Verb(
            name: "confirm", group: .commits, usage: "confirm", summary: "make the commit that waits for it active"
        ) { call in
            try call.ask(["do": "confirm"]) { Terminal.line("commit \($0["commit"]?.integer ?? 0) is active") }
        },
        Verb(
            name: "history", group: .commits, usage: "history", summary: "the last 50 commits: who, when, why"
        ) { call in
            try call.ask(["do": "history"]) { Terminal.say(history($0["commits"]?.list ?? []).text) }
        },
        Verb(
            name: "show-commit", group: .commits, usage: "show-commit N", summary: "the document of one",
            details: "The document that it changed; --document: that one, as it was then.", words: 1...1,
            options: [
                .init(name: "--diff", value: nil, summary: "what it changed, instead of all"),
                Invocation.documentOption,
            ]
        ) { call in
            let number = try call.number(0)
            try call.ask(["do": "show-commit", "number": .integer(number)]) { answer in
                guard call.has("--diff") else {
                    let named = call["--document"].map { answer["documents"]?[$0]?.text ?? "" }
                    return Terminal.say(named ?? answer["site"]?.text ?? "")
                }
                for line in answer["diff"]?.list ?? [] { Terminal.line(line.text ?? "") }
            }
        },
        Verb(
            name: "rollback", group: .commits, usage: "rollback N",
            summary: "follow the documents of an earlier commit again",
            details: "All of them, or --document NAME alone; the customer's alone for the role customer.", words: 1...1,
            options: Invocation.commitOptions
        ) { call in
            try commit("rollback", ["number": .integer(try call.number(0))], call)
        },
    ]

    private static func history(_ commits: [JSON]) -> TextTable {
        // The name of a document that is the only one says nothing.
        let hasOwners = commits.contains { $0["changed"]?.list != ["provider"] }
        let rows = commits.map { commit -> [JSON] in
            let state: JSON = commit["rolled-back"] == nil ? commit["state"] ?? "" : "rolled back"
            // Further lines are a daemon's, or a program's that checks files.
            let reason = commit["rolled-back"]?.text.map { String($0.prefix { $0 != "\n" }) }
            let why = [commit["comment"]?.text, reason].compactMap { $0 }.filter { !$0.isEmpty }
            let changed = (commit["changed"]?.list ?? []).compactMap(\.text).joined(separator: ", ")
            let number = commit["number"] ?? 0
            var row: [JSON] = [number, .text(date(commit["time"]?.integer ?? 0)), commit["user"] ?? ""]
            if hasOwners { row.append(.text(changed)) }
            row += [commit["added"] ?? 0, commit["removed"] ?? 0, state, .text(why.joined(separator: "; "))]
            return row
        }
        let columns = ["n", "when (utc)", "who"] + (hasOwners ? ["document"] : []) + ["+", "-", "state", "why"]
        return TextTable(columns: columns, rows: rows)
    }

    private static func date(_ seconds: Int) -> String {
        var seconds = time_t(seconds)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        var buffer = [CChar](repeating: 0, count: 32)
        strftime(&buffer, buffer.count, "%Y-%m-%d %H:%M", &parts)
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Seconds that probes and services may take.
    private static let patience = 120

    /// Has the engine commit, and waits until it is active or rolled back.
    static func commit(_ verb: String, _ what: @autoclosure () throws -> [String: JSON], _ call: Invocation) throws {
        let client = EngineClient()
        let request = call.request(verb, try call.commitSettings().merging(what()) { $1 })
        let answer = try client.answer(to: .object(request))
        if !call.asJSON { say(answer) }
        if request["confirm"] == nil { try waitForVerdict(answer, asJSON: call.asJSON) }
        if call.asJSON { Terminal.say(answer.pretty) }
    }

    /// Waits until the probes that a commit may have broken have passed.
    ///
    /// - Throws: the reason, where the engine has rolled the commit back.
    static func waitForVerdict(_ answer: JSON, asJSON: Bool) throws {
        guard let number = answer["commit"]?.integer, answer["probation"]?.list?.isEmpty == false else { return }
        let client = EngineClient()
        for _ in 0..<patience * 5 {
            let status = try client.answer(to: ["do": "status"])
            guard status["commit"]?.integer == number else {
                throw EngineError(status["rolled-back"]?.text ?? "commit \(number) was rolled back")
            }
            if status["probation"] == nil {
                if !asJSON { Terminal.line("commit \(number) is active") }
                return
            }
            usleep(200_000)
        }
    }

    static func say(_ answer: JSON) {
        Terminal.warn(answer)
        guard let number = answer["commit"]?.integer else { return }
        let (added, removed) = (answer["added"]?.integer ?? 0, answer["removed"]?.integer ?? 0)
        Terminal.line("commit \(number) is applied: \(added) lines added, \(removed) removed")
        let watched = (answer["probation"]?.list ?? []).compactMap(\.text)
        if !watched.isEmpty {
            Terminal.line("it is rolled back when one of these fails: \(watched.joined(separator: ", "))")
        }
    }
}
