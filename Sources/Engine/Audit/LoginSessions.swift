import Callers
import PluginKit

/// Present login sessions: a removed user, or one with a lower role than at the login, is logged
/// out.
///
/// PID 1 keeps each session in a cgroup of its own, and ends it.
struct LoginSessions {
    private var all: [Int: (user: UInt32, role: Role)] = [:]
    private var last = 0

    /// - Returns: the session's number, for ``end(_:)``.
    mutating func begin(_ user: UInt32, as role: Role) -> Int {
        last += 1
        all[last] = (user, role)
        return last
    }

    mutating func end(_ number: Int) { all[number] = nil }

    /// Users whose sessions must end.
    ///
    /// - Parameter role: a user's role now; nil for none.
    func outdated(_ role: (UInt32) -> Role?) -> Set<UInt32> {
        let now = Dictionary(uniqueKeysWithValues: Set(all.values.map(\.user)).map { ($0, role($0)) })
        let outdated = all.values.filter { session in
            guard let role = now[session.user] ?? nil else { return true }
            return role < session.role
        }
        return Set(outdated.map(\.user))
    }
}

extension Engine {
    /// A session of vcpectl as a login shell: it lasts as long as its connection.
    ///
    /// - Throws: when PID 1 begins none, such as for a user with too many.
    func beginSession(_ request: EngineRequest) throws {
        let connection = request.connection
        let (caller, subject) = (connection.caller, connection.subject)
        // A session's second command is within it already.
        if case .service = caller.origin, caller.user != 0 {
            try places.pidOne.tell("session \(caller.user) \(caller.process)")
        }
        let details = request.json["command"]?.text.map { "command=\($0)" } ?? ""
        audit.add(subject, "login", hidden(details), .done)
        let number = sessions.begin(caller.user, as: request.role)
        connection.ended = { [audit, weak self] in
            self?.sessions.end(number)
            audit.add(subject, "logout", "", .done)
        }
        connection.send(event: ["event": "session"])
    }

    /// Has PID 1 end sessions of users with a lower role, or none.
    func endOutdatedSessions() {
        for user in sessions.outdated(Caller.role) {
            guard (try? places.pidOne.tell("end-sessions \(user)")) != nil else { continue }
            audit.add(.box("box"), "end-sessions", "user=\(Caller.name(of: user))", .done, reason: "the role is gone")
        }
    }
}
