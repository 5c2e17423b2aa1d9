import Documents
import Engine
import Files
import Schema
import Glibc

/// Verbs of the candidate: the document that operators work on before they commit it.
enum ConfigurationVerbs {
    static let all: [Verb] = [
        Verb(
            name: "show", group: .configuration, usage: "show [PATH]", summary: "the document, or a part of it",
            details: """
                What the box follows; of several documents, what they say together. --candidate: what is worked on. Secrets are
                masked.
                """,
            words: 0...1,
            options: [
                .init(name: "--candidate", value: nil, summary: "what is worked on, instead of what is followed"),
                .init(name: "--document", value: "NAME", summary: "provider or customer: that document alone"),
                .init(name: "--origins", value: nil, summary: "each value with its document and line"),
                .init(name: "--rfc7951", value: nil, summary: "as JSON of the plugins' YANG modules"),
                .init(name: "--state", value: nil, summary: "what the box observes, instead of what it is told"),
            ]
        ) { call in
            if call.has("--state") { return try showState(call) }
            if call.has("--origins") {
                let what: [String: JSON] = ["origins": true, "path": .text(call.words.first ?? "")]
                return try call.ask(.object(call.request("show", what))) { Terminal.say($0["site"]?.text ?? "") }
            }
            let answer = try EngineClient().answer(
                to: .object(call.request(call.has("--candidate") ? "candidate" : "show")))
            let text = answer["site"]?.text ?? ""
            let whole = try YAML.read(Array(text.utf8), file: "site")
            guard let part = try whole.value(at: DocumentPath(call.words.first ?? "")) else {
                throw EngineError("\(call.words[0]): the document has nothing there")
            }
            if call.has("--rfc7951") {
                guard call.words.isEmpty else { throw WrongUsage("--rfc7951 is of the whole document") }
                return Terminal.say(Schema.all().instanceData(of: whole).pretty)
            }
            if call.asJSON { return Terminal.say(JSON(part).pretty) }
            Terminal.say(call.words.isEmpty ? text : part.yaml)
        },
        Verb(
            name: "set", group: .configuration, usage: "set PATH VALUE", summary: "a value of the candidate",
            details: """
                VALUE is YAML: a word, a number, [a, list] or {a: mapping}. What is missing on the way is made; a list's item is
                told by its number or its name, and one that isn't there is added.

                  vcpectl set firewall.rules[web].action drop
                  vcpectl set network.resolvers '[192.0.2.53, 192.0.2.54]'
                """,
            words: 2...2, options: documentOptions
        ) { call in
            try edit(["edit": "set", "path": .text(call.words[0]), "value": .text(call.words[1])], call)
        },
        Verb(
            name: "delete", group: .configuration, usage: "delete PATH", summary: "a part of the candidate",
            words: 1...1, options: documentOptions
        ) { call in try edit(["edit": "delete", "path": .text(call.words[0])], call) },
        Verb(
            name: "edit", group: .configuration, usage: "edit", summary: "the candidate, in $EDITOR",
            details: "Comments and layout stay as they are written.", options: documentOptions
        ) { call in try editInEditor(call) },
        Verb(
            name: "load", group: .configuration, usage: "load FILE", summary: "a file as the candidate", words: 1...1,
            options: documentOptions
        ) { call in
            let text = try Terminal.read(call.words[0], for: "load")
            try call.ask(.object(call.request("load", ["site": .text(text), "name": .text(call.words[0])]))) { _ in }
        },
        Verb(
            name: "diff", group: .configuration, usage: "diff [N [M]]",
            summary: "what a commit would change; with N, what was changed since",
            details: "Two numbers: what was changed from commit N to commit M.", words: 0...2, options: documentOptions
        ) { call in
            var request = call.request("diff")
            if !call.words.isEmpty { request["from"] = .integer(try call.number(0)) }
            if call.words.count > 1 { request["to"] = .integer(try call.number(1)) }
            try call.ask(.object(request)) { answer in
                for line in answer["lines"]?.list ?? [] { Terminal.line(line.text ?? "") }
            }
        },
        Verb(
            name: "check", group: .configuration, usage: "check", summary: "whether the candidate could be applied",
            details: "Every problem with its place. Without a candidate, what the box follows is checked.",
            options: documentOptions
        ) { call in
            try call.ask(.object(call.request("check"))) { answer in
                sayPlanned(answer)
                Terminal.line("it can be applied")
            }
        },
        Verb(
            name: "discard", group: .configuration, usage: "discard", summary: "the candidate; nothing else changes",
            options: documentOptions
        ) { call in try call.ask(.object(call.request("discard"))) { _ in } },
        Verb(
            name: "commit", group: .configuration, usage: "commit", summary: "the candidate: all of it, or nothing",
            options: Invocation.commitOptions + [
                .init(name: "--force", value: nil, summary: "although another commit came since it was begun")
            ]
        ) { call in
            try CommitVerbs.commit("commit", ["force": .boolean(call.has("--force"))], call)
        },
    ]

    private static let documentOptions = [Invocation.documentOption]

    private static func showState(_ call: Invocation) throws {
        let path = call.words.first ?? ""
        let answer = try EngineClient().answer(
            to: ["do": "get-data", "datastore": "operational", "config": false, "path": .text(path)])
        let data = answer["data"] ?? [:]
        if call.asJSON || call.has("--rfc7951") { return Terminal.say(data.pretty) }
        // People write paths without the modules' names.
        let plain = (data.object ?? [:]).map {
            ($0.key.split(separator: ":").last.map(String.init) ?? $0.key, $0.value)
        }
        let whole = Node(.object(Dictionary(plain) { $1 }), position: .init(file: "state", line: 1, column: 1))
        // Of a list, the answer has the items that the path names.
        let steps = try DocumentPath(path).steps.map { step -> DocumentPath.Step in
            if case .key = step { step } else { .index(0) }
        }
        guard let part = whole.value(at: DocumentPath(steps: steps)) else {
            throw EngineError("\(path): the box observes nothing there")
        }
        Terminal.say(part.yaml)
    }

    static func sayPlanned(_ answer: JSON) {
        Terminal.warn(answer)
        for line in answer["removed"]?.list ?? [] { Terminal.line("- \(line.text ?? "")") }
        for line in answer["added"]?.list ?? [] { Terminal.line("+ \(line.text ?? "")") }
    }

    private static func edit(_ edit: JSON, _ call: Invocation) throws {
        try call.ask(.object(call.request("edit", ["edits": [edit]]))) { _ in }
    }

    private static func editInEditor(_ call: Invocation) throws {
        let known = ["editor", "nano", "vim", "vi", "busybox vi", "ed"]
        let wish = getenv("VISUAL") ?? getenv("EDITOR")
        let isThere: (String) -> Bool = { name in
            ["/usr/bin", "/bin", "/usr/local/bin"].contains {
                FileSystem.exists("\($0)/\(name.split(separator: " ")[0])")
            }
        }
        guard let editor = wish.map({ String(cString: $0) }) ?? known.first(where: isThere) else {
            throw EngineError("this image has no editor: vcpectl set and vcpectl load change the candidate without one")
        }
        let answer = try EngineClient().answer(to: .object(call.request("candidate")))
        let path = "/tmp/vcpectl-\(getpid()).yaml"
        try FileSystem.replace(path, with: answer["site"]?.text ?? "", mode: 0o600)
        let before = try FileSystem.read(path)
        // The shell takes an editor with its options apart.
        let words = ["sh", "-c", "exec \(editor) \"$0\"", path]
        let argv = words.map { strdup($0) } + [nil]
        defer { for pointer in argv { free(pointer) } }
        var pid: pid_t = 0
        let failure = posix_spawnp(&pid, "sh", nil, nil, argv, environ)
        guard failure == 0 else { throw SystemError("posix_spawn", "sh", code: failure) }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        guard status == 0 else {
            throw EngineError("\(editor) ended with \(status >> 8); what you wrote is in \(path)")
        }
        let text = try Terminal.read(path, for: "load")
        if Array(text.utf8) == before {
            unlink(path)
            return call.asJSON ? Terminal.say(JSON.object([:]).pretty) : Terminal.line("nothing was changed")
        }
        do {
            _ = try EngineClient().answer(
                to: .object(call.request("load", ["site": .text(text), "name": .text(path)])))
        } catch {
            throw EngineError("\(error)\nwhat you wrote is in \(path): vcpectl load takes it when it is mended")
        }
        unlink(path)
        if call.asJSON { return Terminal.say(JSON.object([:]).pretty) }
        Terminal.line("vcpectl diff shows what is changed, vcpectl check whether it can be applied")
    }
}
