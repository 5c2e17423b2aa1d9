import Documents
import Files
import Glibc
import Slots
import Terminals
import Updates

// Fetches releases, installs them into the other slot, and finds them good or not. It alone on the box verifies what is signed.

/// Runs what was asked for.
///
/// - Returns: what is shown to people, and to programs.
/// - Throws: also for words that ``Serving`` or vcpectl should not have let through.
func run(_ words: [String]) throws -> UpgradeAnswer {
    switch (words.first, words.count) {
    case ("status", 1): return try Upgrader().status()
    case ("check", 1): return try Upgrader().check()
    case ("download", 1): return try Upgrader().download(nil)
    case ("download", 3) where words[1] == "--to": return try Upgrader().download(words[2])
    case ("install", _):
        var (version, restarts, rest): (String?, Bool, ArraySlice<String>) = (nil, false, words.dropFirst())
        while let word = rest.popFirst() {
            switch word {
            case "--to":
                guard let value = rest.popFirst() else { throw UnknownRequest() }
                version = value
            case "--reboot": restarts = true
            default: throw UnknownRequest()
            }
        }
        return try Upgrader().install(version, restarts: restarts)
    case ("loader", 1): return try Upgrader().tryLoader(restarts: false)
    case ("loader", 2) where words[1] == "--reboot": return try Upgrader().tryLoader(restarts: true)
    case ("cancel", 1): return try Upgrader().cancel()
    case ("history", 1): return Upgrader.history()
    case ("slots", 1): return try Upgrader().slots()
    default: throw UnknownRequest()
    }
}

struct UnknownRequest: Error, CustomStringConvertible {
    var description: String { "vcpectl help upgrade says what can be asked" }
}

/// What a verb has to say.
struct UpgradeAnswer {
    var lines: [String]
    var json: JSON
}

/// Writes lines; JSON passes as it is.
func say(_ text: String, to descriptor: Int32) {
    var text = TerminalText.lines(text)
    text.withUTF8 { _ = write(descriptor, $0.baseAddress, $0.count) }
}

/// To a program that asked by the socket: a line of JSON.
///
/// - Parameter words: the user and the process that asked, and the request.
func answer(_ words: [String]) -> Int32 {
    let request = Array(words.dropFirst(2))
    let note = AuditNote(
        user: words.first.flatMap { uid_t($0) }, process: words.dropFirst().first.flatMap { pid_t($0) } ?? 0,
        words: request)
    let isNoted = AuditNote.changes.contains(request.first ?? "")
    do {
        let answer = try run(request)
        if isNoted { note.send("done") }
        say(JSON.object(["lines": .texts(answer.lines), "answer": answer.json]).line + "\n", to: 1)
        return 0
    } catch {
        if isNoted { note.send("failed", reason: "\(error)") }
        say(JSON.object(["error": .text("\(error)")]).line + "\n", to: 1)
        return 1
    }
}

/// The newest release, unless that fell back before; the box restarts.
func installByItself() -> Int32 {
    let (said, status): ([String], Int32)
    do { (said, status) = (try Upgrader().installNewest(), 0) } catch { (said, status) = (["\(error)"], 1) }
    Upgrader.noteLook(said)
    for line in said { say(line + "\n", to: 2) }
    if !said.isEmpty {
        AuditNote(words: ["automatic"]).send(status == 0 ? "done" : "failed", reason: said.joined(separator: "; "))
    }
    return status
}

let words = Array(CommandLine.arguments.dropFirst())
switch words.first {
// PID 1 asks for it.
case "settle": exit(Settling.run())
// The plugin's service, and what it starts.
case "serve": exit(Serving.run())
// The plugin's other service: it has the network, and nothing else.
case "fetch" where words.count == 2: exit(FetchServing.run(words[1]))
case "fetch-for": exit(FetchServing.serve())
case "answer": exit(answer(Array(words.dropFirst())))
case "refused" where words.count > 4:
    AuditNote(user: uid_t(words[1]), process: pid_t(words[2]) ?? 0, words: words[4...].map { String($0.prefix(64)) })
        .send("refused", reason: words[3])
    exit(0)
case "automatic": exit(installByItself())
case "within" where words.count > 2: exit(NextRelease.become(words[2], Array(words[3...]), within: words[1]))
default:
    say("vcpe-updater is asked by vcpectl upgrade and vcpectl slots\n", to: 2)
    exit(64)
}
