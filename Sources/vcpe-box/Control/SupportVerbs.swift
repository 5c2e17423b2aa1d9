import Documents
import Engine
import Files
import Glibc

/// Verbs for those who help.
enum SupportVerbs {
    static let all = [
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
            bundle["services"] = (try? InitClient().services()).map { .list($0.map(\.json)) } ?? .null
            var logs: [String: JSON] = [:]
            for name in ServiceVerbs.logNames {
                let text = (try? FileSystem.read("\(ServiceVerbs.logFolder)/\(name)")) ?? []
                logs[name] = .text(String(decoding: text.suffix(64 << 10), as: UTF8.self))
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
            Terminal.say("\(path): \(text.utf8.count) bytes\n")
        },
        Verb(
            name: "completion", group: .support, usage: "completion bash|zsh",
            summary: "what completes vcpectl's words in a shell",
            details: "source <(vcpectl completion bash)", words: 1...1
        ) { call in Terminal.say(try Completion.script(for: call.words[0])) },
    ]
}
