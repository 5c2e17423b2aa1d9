import Documents
import Files
import Glibc
import Planning
import PluginKit
import Processes

/// Plans documents for `plan` and `check`, each by a process of its own, one after the other: a user who
/// may only read must neither delay the engine nor fill its memory.
public final class Previews {
    /// What a preview is made with.
    struct State {
        /// The active documents, and others whose secrets may be in the applied plan.
        var followed: SiteDocuments
        var others: SiteDocuments
        var facts: Facts
        /// Seconds since 1970.
        var now: Int
    }

    private struct Waiting {
        var text: String
        var document: SiteDocument
        var name: String
        var connection: ClientConnection
        /// How often it was made with a plan that was replaced meanwhile.
        var tries = 0
    }

    private struct Running {
        var process: Command.Running
        var waiting: Waiting
        var revision: Int
        /// When it is ended, in milliseconds of the kernel's time.
        var end: Int
    }

    private let places: Places
    private var waiting: [Waiting] = []
    private var running: Running?

    /// Milliseconds that one may take, bytes of its answer, and how often it is made anew.
    private static let (patience, most, mostTries) = (60_000, 64 << 20, 5)

    init(places: Places) { self.places = places }

    /// Has a document planned, and the connection answered with what it changes.
    ///
    /// - Parameter text: the document, with masks in the places of secrets that it keeps.
    func begin(_ text: String, as document: SiteDocument, name: String, for connection: ClientConnection) {
        waiting.append(Waiting(text: text, document: document, name: name, connection: connection))
    }

    // MARK: - In the engine's loop

    var polled: [pollfd] { running?.process.polled ?? [] }

    /// When there is something to do though nothing came, in milliseconds of the kernel's time.
    var due: Int? {
        guard let running else { return waiting.isEmpty ? nil : 0 }
        // No descriptor reports the end of a process that has closed its output.
        return running.process.polled.isEmpty ? Uptime.milliseconds + 5 : running.end
    }

    /// - Parameters:
    ///   - revision: changes with each plan that is applied.
    ///   - state: the present one, which costs requests to the kernel.
    func step(_ revision: Int, _ state: () throws -> State) {
        waiting.removeAll { !$0.connection.isOpen }
        if let running { follow(running, revision) }
        guard running == nil, let next = waiting.removeHighest(by: \.connection.rank) else { return }
        do {
            running = try start(next, try state(), revision)
        } catch {
            next.connection.answer(["error": .text("\(error)")])
        }
    }

    private func follow(_ job: Running, _ revision: Int) {
        let connection = job.waiting.connection
        // The caller is gone. The process is killed with its last reference.
        guard connection.isOpen else { return running = nil }
        do {
            if let result = try job.process.progress(limit: Self.most) {
                running = nil
                var next = job.waiting
                next.tries += 1
                // The process has read the plan that was applied then: with another document's secrets,
                // perhaps, than those it knew to hide.
                if revision != job.revision {
                    guard next.tries < Self.mostTries else {
                        throw EngineError("the configuration changes all the time; try again later")
                    }
                    return waiting.insert(next, at: 0)
                }
                try Self.answer(connection, result)
            } else if Uptime.milliseconds >= job.end {
                throw EngineError("the document's plan took longer than \(Self.patience / 1000) s")
            }
        } catch {
            running = nil
            connection.answer(["error": .text("\(error)")])
        }
    }

    private func start(_ next: Waiting, _ state: State, _ revision: Int) throws -> Running {
        let request: JSON = [
            "text": .text(next.text), "document": .text(next.document.rawValue), "name": .text(next.name),
            "followed": state.followed.json, "others": state.others.json, "facts": state.facts.json,
            "now": .integer(state.now),
        ]
        let words = [
            "preview", "--run", places.run, "--data", places.data, "--plugins", places.plugins, "--factory-site",
            places.factorySite,
        ]
        let process = try Command(CommandLine.arguments.first ?? "", words).begin(
            input: .temporary(holding: Array(request.line.utf8)))
        return Running(
            process: process, waiting: next, revision: revision, end: Uptime.milliseconds + Self.patience)
    }

    private static func answer(_ connection: ClientConnection, _ result: Command.Result) throws {
        guard result.status == 0, result.output.last == UInt8(ascii: "\n") else {
            // What it wrote may name secrets.
            Log.say(
                "a preview ended with \(result.status): "
                    + result.errorText.split(separator: "\n").suffix(3).joined(separator: "; "))
            throw EngineError("the document can't be planned: the engine's log has the reason")
        }
        connection.answer(line: result.output)
    }

    // MARK: - The process

    /// Reads a request on standard input and writes the answer.
    ///
    /// - Returns: the process's exit code.
    public static func run(_ places: Places) -> Int32 {
        // Commits come first, and when memory runs out, this ends before anything else.
        setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 10)
        try? File("/proc/self/oom_score_adj", O_WRONLY).append(Array("900".utf8))
        do {
            let request = try JSON.parse(
                File(descriptor: dup(0), path: "standard input").readAll(), values: 1_000_000)
            let answer = try preview(request, places)
            try File(descriptor: dup(1), path: "standard output").append(Array((answer.line + "\n").utf8))
            return 0
        } catch {
            Log.say("\(error)")
            return 1
        }
    }

    private static func preview(_ request: JSON, _ places: Places) throws -> JSON {
        func text(_ key: String) throws -> String {
            guard let text = request[key]?.text else { throw EngineError("the request needs the text \"\(key)\"") }
            return text
        }
        let planner = try places.planner(forPreviews: true)
        let reader = SiteReader(places: places, manifests: planner.manifests)
        let followed = SiteDocuments(request["followed"] ?? [:])
        var known = Array(try reader.nodes(of: followed, name: "site").values)
        known += try reader.nodes(of: SiteDocuments(request["others"] ?? [:]), name: "site").values
        do {
            let (name, document) = (try text("name"), SiteDocument(rawValue: try text("document")) ?? .provider)
            let seen = Array(reader.text(of: document, in: followed).utf8)
            let changed = try followed.with(
                try SecretMasks.meant(
                    try text("text"), name: name, seen: try YAML.read(seen, file: document.rawValue)), as: document)
            known += try reader.nodes(of: changed, name: name).values
            let masks = SecretMasks(of: known)
            let facts = Facts.shape.read(
                Node(request["facts"] ?? [:], position: .init(file: "facts", line: 1, column: 1)), path: "",
                into: ProblemList())
            let applied =
                AppliedState(at: places.appliedState, customKinds: planner.customKinds) ?? AppliedState()
            let planned = try PlannedSite(
                changed, changed: [document], name: name, reader: reader, planner: planner,
                facts: facts ?? Facts(), now: request["now"]?.integer ?? 0, beside: applied)
            let checks = FileChecks(places: places, forPreviews: true)
            let problems = try planned.problems(by: checks, planner)
            let unchecked = checks.plugins(lackingSecretsIn: planned.plan).sorted().map {
                "warning: the files of the plugin \($0) are not checked: the box makes a secret of it with the commit"
            }
            if !problems.isEmpty { throw InvalidSite(problems: problems) }
            return [
                "added": .texts(masks.hide(planned.added.map(\.line))),
                "removed": .texts(masks.hide(planned.removed.map(\.line))),
                "warnings": .texts(masks.hide(planned.plan.warnings + unchecked + planned.plan.absent)),
            ]
        } catch {
            // A plugin may repeat a secret in what it has against a document.
            return ["error": .text(SecretMasks(of: known).hide(["\(error)"])[0])]
        }
    }
}
