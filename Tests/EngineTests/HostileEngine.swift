import Documents
@testable import Engine
import Files
import Glibc
import Processes
import Synchronization

/// An engine that answers vcpectl with values that an attacker chose, in the place of the box's
/// own.
///
/// vcpectl runs in a mount namespace where the sockets of `/run/vcpe` are this engine's.
final class HostileEngine {
    /// A title and a clearing of the screen, DEL, a C1 control sequence, an override of the
    /// direction, an isolate, and a line that looks like vcpectl's own.
    static let value = "x\u{1B}]0;p\u{07}\u{7F}\u{9B}2J\u{202E}\u{2066}\u{061C}\r\n\(forged)"
    static let forged = "FORGED"
    /// A log has bytes of any kind.
    static let log: [UInt8] = Array("a\u{1B}[2J\u{202E}".utf8) + [0xFF, 0x0A]

    private let folder: String
    private final class State: Sendable {
        let isOver = Atomic<Bool>(false)
        let isFailing = Atomic<Bool>(false)
        let ended = Atomic<Int>(0)
        let unknown = Mutex<Set<String>>([])
    }
    private let state = State()

    /// Whether every request is refused, with a hostile error.
    var isFailing: Bool {
        get { state.isFailing.load(ordering: .relaxed) }
        set { state.isFailing.store(newValue, ordering: .relaxed) }
    }

    /// Requests that ``answers`` does not have.
    var unknown: Set<String> { state.unknown.withLock { $0 } }

    init() throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-hostile")
        try FileSystem.makeDirectory("\(folder)/run/upgrade")
        Self.serve("\(folder)/run/api/engine.sock", isUpdater: false, state)
        Self.serve("\(folder)/run/upgrade/socket", isUpdater: true, state)
        for path in ["api/engine.sock", "upgrade/socket"] {
            while !FileSystem.exists("\(folder)/run/\(path)") { usleep(500) }
        }
    }

    // A thread: a loop that waits would hold one of the test's own.
    private static func serve(_ path: String, isUpdater: Bool, _ state: State) {
        _ = DetachedThread.start {
            if let server = try? Server(path: path, group: getgid()) {
                while !state.isOver.load(ordering: .relaxed) {
                    server.step()
                    if let asked = server.next() {
                        asked.connection.answer(answer(asked.json, isUpdater, state))
                    } else {
                        usleep(500)
                    }
                }
            }
            state.ended.add(1, ordering: .relaxed)
        }
    }

    deinit {
        state.isOver.store(true, ordering: .relaxed)
        while state.ended.load(ordering: .relaxed) < 2 { usleep(500) }
        try? FileSystem.remove(folder)
    }

    /// vcpectl, as a user without privileges has it: root asks PID 1 instead.
    func vcpectl(_ arguments: [String]) throws -> Command.Result {
        let script = """
            mount -t tmpfs tmpfs /run && mkdir /run/vcpe && mount --bind \(folder)/run /run/vcpe
            touch /run/vcpectl && mount --bind \(try Self.program) /run/vcpectl
            exec timeout 20 setpriv --reuid 65534 --clear-groups --inh-caps=-all /run/vcpectl "$@"
            """
        return try Command(
            "unshare", ["--mount", "sh", "-ec", script, "sh"] + arguments, environment: ["EDITOR": "true"]
        ).run()
    }

    /// The executable that stands beside the tests'; VCPE_BOX_PROGRAM names another.
    private static var program: String {
        get throws {
            if let other = getenv("VCPE_BOX_PROGRAM") { return String(cString: other) }
            let root = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
            for name in ["debug", "release"] where FileSystem.exists("\(root)/.build/\(name)/vcpe-box") {
                return "\(root)/.build/\(name)/vcpe-box"
            }
            throw SystemError("open", "\(root)/.build/debug/vcpe-box", code: ENOENT)
        }
    }

    private static func answer(_ request: JSON, _ isUpdater: Bool, _ state: State) -> JSON {
        let name = request["do"]?.text ?? ""
        // Help and completion know plugins by it.
        if name != "commands", state.isFailing.load(ordering: .relaxed) { return ["error": .text(value)] }
        if isUpdater { return hostile(["answer": ["*": "*"], "lines": ["*"]]) }
        // Following ends with it.
        if name == "audit", request["after"] != nil { return ["error": .text(value)] }
        if name == "log" {
            if request["from"] != nil { return ["error": .text(value)] }
            let text = request["raw"] == true ? ServiceLogs.characters(of: log) : "a\u{1B}[2J\u{202E}\\xff\n"
            return ["text": .text(text), "next": "1:1"]
        }
        if name == "run", request["command"] == "act" { return hostile(["said": ["*"], "warnings": ["*"]]) }
        guard let answer = answers[name] else {
            _ = state.unknown.withLock { $0.insert(name) }
            return ["error": .text("the test has no answer to \(name)")]
        }
        return hostile(answer)
    }

    /// Every text and key that is "*" is hostile.
    private static func hostile(_ json: JSON) -> JSON {
        switch json {
        case "*": .text(value)
        case .list(let items): .list(items.map(hostile))
        case .object(let entries):
            .object(Dictionary(entries.map { ($0.key == "*" ? value : $0.key, hostile($0.value)) }) { $1 })
        default: json
        }
    }

    /// A document that a person may have written: YAML has no control characters but in quotes.
    private static let site: JSON = .text(
        """
        # \u{202E}\u{2066} a comment
        network: {"\\e]0;k\\a": "\\e[2J\\x9b\\x7f\\r\\nFORGED", plain: "\u{202E}\u{2066}"}

        """)

    /// What the engine answers, in the form of docs/api.md.
    private static let answers: [String: JSON] = [
        "status": [
            "site": "*", "commit": 2, "resources": 1, "rollback-in": 5, "probation": ["*"], "rolled-back": "*",
            "drift": ["*"], "damage": "*", "trouble": "*", "load": ["*"],
        ],
        "health": [
            "probes": [["name": "*", "what": "*", "holds": false, "failures": 1, "reason": "*"]], "tables": ["*"],
            "kernel": [["key": "*", "wanted": "*", "found": "*"]], "clock": ["refused": 1, "instead": 1],
        ],
        "show": ["site": site, "name": "*", "documents": ["*"]],
        "candidate": ["site": site, "document": "*"],
        "get-data": [
            "datastore": "operational",
            "data": ["vcpe-network:network": ["*": "*", "links": [["name": "*"]]]],
        ],
        "plan": [
            "lines": ["*"], "nftables": ["nftables": [["rule": ["comment": "*"]]]], "added": ["*"], "removed": ["*"],
            "warnings": ["*"],
        ],
        "check": ["added": ["*"], "removed": ["*"], "warnings": ["*"]],
        "diff": ["lines": ["*"]],
        "history": [
            "commits": [
                [
                    "number": 1, "time": 1, "user": "*", "comment": "*", "added": 1, "removed": 1, "state": "*",
                    "rolled-back": "*", "changed": ["*"],
                ]
            ]
        ],
        "show-commit": ["site": site, "documents": ["provider": site], "diff": ["*"], "comment": "*", "user": "*"],
        "explain": [
            "rules": [["origin": "*", "chain": "*", "place": "*", "packets": 1, "rule": ["*": "*"]]]
        ],
        "explain-packet": [
            "steps": [["kind": "*", "chain": "*", "verdict": "*", "origin": "*", "place": "*"]], "unknown": ["*"],
            "marks": ["*": 1], "connection-marks": ["*": 1], "zone": 1, "end": "*",
        ],
        "trace": [:],
        "traced": [
            "packets": [
                [
                    "packet": "*", "in": "*", "out": "*",
                    "steps": [["kind": "rule", "chain": "*", "verdict": "*", "origin": "*", "place": "*"]],
                ]
            ],
            "over": true,
        ],
        "counters": ["*": ["packets": 1, "bytes": 1]],
        "feeds": ["feeds": [["name": "*", "planned": 1, "members": 1, "passing": 0, "from": "*"]]],
        "feed": ["members": [["member": "*", "from": "*", "expires": 1]]],
        "feed-change": ["members": 1],
        "edit": [:], "load": [:], "discard": [:], "service": [:], "power": [:], "factory-reset": [:],
        "apply": ["commit": 1, "added": 1, "removed": 1, "warnings": ["*"], "probation": ["*"]],
        "commit": ["commit": 1, "added": 1, "removed": 1, "warnings": ["*"], "probation": ["*"]],
        "rollback": ["commit": 1, "added": 1, "removed": 1, "warnings": ["*"], "probation": ["*"]],
        "confirm": ["commit": 1],
        "services": [
            "services": [["name": "*", "state": "*", "pid": 1, "restarts": 1, "memory": 4096, "status": "*"]]
        ],
        "logs": ["logs": ["*"]],
        "disks": ["disks": [["name": "*", "model": "*", "serial": "*", "bytes": 1, "state": "*"]], "says": "*"],
        "install-disk": ["disk": ["name": "*"]],
        "commands": [
            "commands": [
                [
                    "plugin": "evil", "name": "look", "summary": "*", "verb": "show",
                    "arguments": [["name": "what", "summary": "*", "optional": true]],
                ],
                ["plugin": "evil", "name": "act", "summary": "*", "verb": "act"],
            ]
        ],
        "values": ["values": ["*"]],
        "run": ["columns": ["*", "n"], "rows": [["*", 1]], "warnings": ["*"]],
        "session": [:],
        "may": [:],
        "audit": [
            "records": [
                [
                    "number": 1, "time": 1, "user": "*", "uid": 1, "role": "*", "origin": "*", "what": "*",
                    "details": "*", "outcome": "*", "reason": "*", "count": 2,
                ]
            ],
            "next": 1,
        ],
    ]
}
