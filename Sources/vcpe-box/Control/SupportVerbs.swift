import Documents
import Engine
import Files
import Glibc

/// Verbs for those who help.
enum SupportVerbs {
    static let all: [Verb] = [
        Verb(
            name: "support-bundle", group: .support, usage: "support-bundle [FILE]",
            summary: "all that helps others to help, as one file of JSON",
            details: """
                Status, health, history, the document with its secrets masked, the plan, services, counters and logs. Written to
                FILE, or to standard output.
                """,
            words: 0...1
        ) { call in
            let client = EngineClient()
            var bundle: [String: JSON] = [:]
            for request in ["status", "health", "history", "show", "plan", "counters", "commands"] {
                do {
                    bundle[request] = try client.answer(to: ["do": .text(request)])
                } catch {
                    bundle[request] = ["error": .text("\(error)")]
                }
            }
            bundle["services"] = (try? Supervision.services()).map { .list($0) } ?? .null
            var logs: [String: JSON] = [:]
            for name in (try? Supervision.logs()) ?? [] {
                let text = (try? Supervision.log(name))?.text ?? ""
                logs[name] = .text(String(decoding: text.utf8.suffix(64 << 10), as: UTF8.self))
            }
            bundle["logs"] = .object(logs)
            for (key, path) in [
                ("image", "/usr/lib/vcpe/image"), ("kernel", "/proc/version"), ("memory", "/proc/meminfo"),
                ("uptime", "/proc/uptime"),
            ] {
                bundle[key] = (try? File(path, O_RDONLY).read(8192, at: 0)).map {
                    .text(String(decoding: $0, as: UTF8.self))
                }
            }
            let text = JSON.object(bundle).pretty
            guard let path = call.words.first, path != "-" else { return Terminal.say(text) }
            try FileSystem.replace(path, with: text, mode: 0o600)
            Terminal.line("\(path): \(text.utf8.count) bytes")
        },
        Verb(
            name: "factory-reset", group: .support, usage: "factory-reset --yes",
            summary: "back to the factory's document; the box restarts at once",
            details: """
                Commits, secrets, keys and all that plugins keep are deleted. What tells the box from others, and what keeps it
                from going back to an older release, stays.
                """,
            options: [.init(name: "--yes", value: nil, summary: "it can't be undone, and that is meant")]
        ) { call in
            guard call.has("--yes") else {
                throw WrongUsage("factory-reset deletes the configuration and all secrets: --yes says that it is meant")
            }
            try call.ask(["do": "factory-reset"]) { _ in Terminal.line("the box restarts") }
        },
        Verb(
            name: "completion", group: .support, usage: "completion bash|zsh",
            summary: "what completes vcpectl's words in a shell",
            details: "source <(vcpectl completion bash)", words: 1...1
        ) { call in Terminal.say(try Completion.script(for: call.words[0])) },
    ]
}
