import Callers
import Files
import PluginKit

/// Present login sessions: a removed user, or one with a lower role than at the login, is logged
/// out.
///
/// PID 1 keeps each session in a cgroup of its own, and ends it. Sessions outlive the engine, so they
/// are in a file, too.
struct LoginSessions {
    private struct Session: Hashable {
        var user: UInt32
        var role: Role
    }

    private let path: String
    private var all: [Int: Session] = [:]
    private var last = 0
    /// Of engines before this one: their end is not heard of.
    private var earlier: Set<Session>

    /// - Parameter path: of a file with a line `USER ROLE` for each, which goes with a restart of
    ///   the box.
    init(path: String) {
        self.path = path
        let lines = (try? FileSystem.read(path)).map { String(decoding: $0, as: UTF8.self).split(separator: "\n") }
        earlier = Set(
            (lines ?? []).compactMap { line in
                let words = line.split(separator: " ").map(String.init)
                guard words.count == 2, let user = UInt32(words[0]), let role = Role(rawValue: words[1]) else {
                    return nil
                }
                return Session(user: user, role: role)
            })
    }

    /// - Returns: the session's number, for ``end(_:)``.
    mutating func begin(_ user: UInt32, as role: Role) -> Int {
        last += 1
        all[last] = Session(user: user, role: role)
        save()
        return last
    }

    mutating func end(_ number: Int) {
        all[number] = nil
        save()
    }

    /// PID 1 has ended what was left of a user.
    mutating func forgetEarlier(of user: UInt32) {
        earlier = earlier.filter { $0.user != user }
        save()
    }

    private func save() {
        let lines = Set(all.values).union(earlier).map { "\($0.user) \($0.role.rawValue)\n" }
        try? FileSystem.replace(path, with: lines.sorted().joined())
    }

    /// Users whose sessions must end.
    ///
    /// - Parameter role: a user's role now; nil for none.
    func outdated(_ role: (UInt32) -> Role?) -> Set<UInt32> {
        let sessions = earlier.union(all.values)
        let now = Dictionary(uniqueKeysWithValues: Set(sessions.map(\.user)).map { ($0, role($0)) })
        let outdated = sessions.filter { session in
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
            sessions.forgetEarlier(of: user)
            audit.add(.box("box"), "end-sessions", "user=\(Caller.name(of: user))", .done, reason: "the role is gone")
        }
    }
}
