import Documents
import Files
import Glibc
import Planning
import PluginKit
import Processes

/// Plans documents for `plan` and `check`, each by a process of its own, one after the other: a user who
/// may only read must neither delay the engine nor fill its memory.
public final class Previews {
    private let places: Places
    private var waiting: [(request: JSON, connection: ClientConnection)] = []
    private var running: (process: Command.Running, connection: ClientConnection, end: Int)?

    /// Milliseconds that one may take, and bytes of its answer.
    private static let (patience, most) = (60_000, 64 << 20)

    init(places: Places) { self.places = places }

    /// Has a document planned, and the connection answered with what it changes.
    ///
    /// - Parameters:
    ///   - text: the document, with masks in the places of secrets.
    ///   - shown: the document that the caller has seen masked.
    func begin(
        _ text: String, name: String, seen shown: String, followed: String, facts: Facts, now: Int,
        for connection: ClientConnection
    ) {
        let request: JSON = [
            "text": .text(text), "name": .text(name), "shown": .text(shown), "followed": .text(followed),
            "facts": facts.json, "now": .integer(now),
        ]
        waiting.append((request, connection))
        step()
    }

    // MARK: - In the engine's loop

    var polled: [pollfd] { running?.process.polled ?? [] }

    /// When there is something to do though nothing came, in milliseconds of the kernel's time.
    var due: Int? {
        guard let running else { return nil }
        // No descriptor reports the end of a process that has closed its output.
        return running.process.polled.isEmpty ? Uptime.milliseconds + 5 : running.end
    }

    func step() {
        if let (process, connection, end) = running {
            if !connection.isOpen {
                // The caller is gone. The process is killed with its last reference.
                running = nil
            } else {
                do {
                    if let result = try process.progress(limit: Self.most) {
                        running = nil
                        Self.answer(connection, result)
                    } else if Uptime.milliseconds >= end {
                        throw EngineError("the document's plan took longer than \(Self.patience / 1000) s")
                    }
                } catch {
                    running = nil
                    connection.answer(["error": .text("\(error)")])
                }
            }
        }
        while running == nil, !waiting.isEmpty {
            let (request, connection) = waiting.removeFirst()
            guard connection.isOpen else { continue }
            do {
                let words = ["preview", "--run", places.run, "--data", places.data, "--plugins", places.plugins]
                let process = try Command(CommandLine.arguments.first ?? "", words).begin(
                    input: .temporary(holding: Array(request.line.utf8)))
                running = (process, connection, Uptime.milliseconds + Self.patience)
            } catch {
                connection.answer(["error": .text("\(error)")])
            }
        }
    }

    private static func answer(_ connection: ClientConnection, _ result: Command.Result) {
        guard result.status == 0, result.output.last == UInt8(ascii: "\n") else {
            let said = result.errorText.split(separator: "\n").suffix(3).joined(separator: "; ")
            return connection.answer(["error": .text("the document can't be planned: \(result.status) \(said)")])
        }
        connection.answer(line: result.output)
    }

    // MARK: - The process

    /// Reads a request on standard input and writes the answer.
    ///
    /// - Returns: the process's exit code.
    public static func run(_ places: Places) -> Int32 {
        // Commits come first.
        setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 10)
        let answer: JSON
        do {
            answer = try preview(places)
        } catch {
            answer = ["error": .text("\(error)")]
        }
        do {
            try File(descriptor: dup(1), path: "standard output").append(Array((answer.line + "\n").utf8))
            return 0
        } catch {
            Log.say("\(error)")
            return 1
        }
    }

    private static func preview(_ places: Places) throws -> JSON {
        let request = try JSON.parse(File(descriptor: dup(0), path: "standard input").readAll())
        func text(_ key: String) throws -> String {
            guard let text = request[key]?.text else { throw EngineError("the request wants the text \"\(key)\"") }
            return text
        }
        func facts() -> Facts {
            let node = Node(request["facts"] ?? [:], position: .init(file: "facts", line: 1, column: 1))
            return Facts.shape.read(node, path: "", into: ProblemList()) ?? Facts()
        }
        let followed = try YAML.read(Array(try text("followed").utf8), file: "site")
        let shown = try YAML.read(Array(try text("shown").utf8), file: "site")
        let name = try text("name")
        let document = try SecretMasks.meant(try text("text"), name: name, seen: shown)
        let node = try YAML.read(Array(document.utf8), file: name)
        let planner = try places.planner()
        let applied = AppliedState(at: places.appliedState, customKinds: planner.customKinds) ?? AppliedState()
        let plan = try planner.plan(
            site: node, facts: facts(), now: request["now"]?.integer ?? 0, knowing: applied.plan)
        let masks = SecretMasks(of: [followed, node])
        return [
            "added": .texts(masks.hide(plan.beyond(applied.plan).map(\.line))),
            "removed": .texts(masks.hide(applied.plan.beyond(plan).map(\.line))),
            "warnings": .texts(plan.warnings + plan.absent),
        ]
    }
}
