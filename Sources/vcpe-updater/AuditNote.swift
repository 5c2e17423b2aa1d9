import CSystem
import Documents
import Glibc

/// A record of the engine's audit log about a request to this service. An engine that is being
/// started, or is gone, makes no request wait: the service's own log has what is not noted.
struct AuditNote {
    private static let engine = "/run/vcpe/engine.sock"
    /// Milliseconds that the engine has for its answer.
    private static let patience: Int32 = 2000
    /// Verbs that change nothing are noted only when they are refused.
    static let changes: Set<String> = ["download", "install", "cancel", "loader"]

    /// Nil for what the service does by itself.
    var user: uid_t?
    var process: pid_t = 0
    var words: [String]

    func send(_ outcome: String, reason: String = "") {
        let note = JSON.object([
            "do": "note", "what": .text("upgrade \(words.first ?? "")"), "outcome": .text(outcome),
            "details": .text(words.dropFirst().joined(separator: " ")), "reason": .text(reason),
            "uid": user.map { .integer(Int($0)) }, "process": .integer(Int(process)),
        ])
        let line = Array((note.line + "\n").utf8)
        let connection = csystem_connect_unix(Self.engine, 0)
        guard connection >= 0 else { return say("not in the audit log, without an engine: \(note.line)\n", to: 2) }
        defer { close(connection) }
        // Without the answer the engine could find this process gone, and refuse the record.
        var polled = pollfd(fd: connection, events: Int16(POLLIN), revents: 0)
        var answer = [UInt8](repeating: 0, count: 4096)
        guard Glibc.send(connection, line, line.count, Int32(MSG_NOSIGNAL)) == line.count,
            poll(&polled, 1, Self.patience) > 0, case let count = recv(connection, &answer, answer.count, 0), count > 0,
            (try? JSON.parse(answer[..<count].prefix { $0 != UInt8(ascii: "\n") }))?["error"] == nil
        else { return say("not in the audit log: \(note.line)\n", to: 2) }
    }
}
