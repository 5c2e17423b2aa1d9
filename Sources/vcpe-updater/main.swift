import Documents
import Files
import Glibc
import Slots
import Updates

// Fetches releases, installs them into the other slot, and finds them good or not. It alone on the box verifies what is signed.

/// What the verbs are, and what they want.
let verbs: [(name: String, usage: String, summary: String)] = [
    ("status", "status", "which release runs, which one is installed, and why it waits"),
    ("check", "check", "what the channel offers, and what that would cost"),
    ("install", "install [--to VERSION] [--reboot]", "the newest release, or that one, into the other slot"),
    ("cancel", "cancel", "forget an installed release that was not started yet"),
    ("history", "history", "upgrades of this box, newest first"),
    ("slots", "slots", "both slots, and what the loader would start"),
]

func usage() -> String {
    var text = "vcpectl upgrade: brings the box to another release, which comes as it was signed or not at all.\n\n"
    for verb in verbs {
        text += "  \(verb.usage)\(String(repeating: " ", count: max(1, 38 - verb.usage.count)))\(verb.summary)\n"
    }
    return text + """

        --json, behind any of them, gives JSON. Exit codes: 0 done, 1 failed, 64 wrong usage.

        """
}

/// Runs what was asked for.
///
/// - Returns: what is shown to people, and to programs.
func run(_ words: [String]) throws -> Answer {
    switch (words.first, words.count) {
    case ("status", 1): return try Upgrade().status()
    case ("check", 1): return try Upgrade().check()
    case ("install", _):
        var (version, restarts, rest): (String?, Bool, ArraySlice<String>) = (nil, false, words.dropFirst())
        while let word = rest.popFirst() {
            switch word {
            case "--to":
                guard let value = rest.popFirst() else { throw WrongUsage() }
                version = value
            case "--reboot": restarts = true
            default: throw WrongUsage()
            }
        }
        return try Upgrade().install(version, restarts: restarts)
    case ("cancel", 1): return try Upgrade().cancel()
    case ("history", 1): return Upgrade.history()
    case ("slots", 1): return try Upgrade().slots()
    default: throw WrongUsage()
    }
}

struct WrongUsage: Error {}

/// What a verb has to say.
struct Answer {
    var lines: [String]
    var json: JSON
}

func say(_ text: String, to descriptor: Int32) {
    var text = text
    text.withUTF8 { _ = write(descriptor, $0.baseAddress, $0.count) }
}

/// To a program that asked by the socket: a line of JSON.
func answer(_ words: [String]) -> Int32 {
    do {
        let answer = try run(words)
        say(JSON.object(["lines": .texts(answer.lines), "answer": answer.json]).line + "\n", to: 1)
        return 0
    } catch {
        say(JSON.object(["error": .text(error is WrongUsage ? usage() : "\(error)")]).line + "\n", to: 1)
        return 1
    }
}

/// The newest release, unless that fell back before; the box restarts.
func installByItself() -> Int32 {
    do {
        for line in try Upgrade().installNewest() { say(line + "\n", to: 2) }
        return 0
    } catch {
        say("\(error)\n", to: 2)
        return 1
    }
}

let words = Array(CommandLine.arguments.dropFirst())
// Of PID 1, and of this program itself.
if words.first == "settle" { exit(Settling.run()) }
if words.first == "serve" { exit(Serving.run()) }
if words.first == "answer" { exit(answer(Array(words.dropFirst()))) }
if words.first == "automatic" { exit(installByItself()) }
if words.first == "within", words.count > 2 { exit(NextRelease.become(words[2], Array(words[3...]), within: words[1])) }
if words.contains("--help") || words.isEmpty {
    say(usage(), to: 1)
    exit(words.isEmpty ? 64 : 0)
}
do {
    let answer = try run(words.filter { $0 != "--json" })
    say(words.contains("--json") ? answer.json.pretty : answer.lines.map { $0 + "\n" }.joined(), to: 1)
} catch is WrongUsage {
    say(usage(), to: 2)
    exit(64)
} catch {
    say("\(error)\n", to: 2)
    exit(1)
}
