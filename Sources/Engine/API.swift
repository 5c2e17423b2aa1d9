import Documents
import Glibc
import PluginKit

extension Engine {
    /// Answers one request of the local socket (`docs/api.md`).
    ///
    /// - Parameter user: who asks, by the socket's own word.
    func answer(_ request: JSON, from user: uid_t) -> JSON {
        guard user == 0 || user == geteuid() else {
            return ["error": "only root may ask the engine"]
        }
        do {
            switch request["do"]?.text {
            case "status":
                return .object([
                    "site": .text(siteName), "trouble": trouble.map { .text($0) },
                    "resources": .integer(planLines.count),
                    "commit": (head.pending?.commit ?? head.commit).map { .integer($0) },
                    "put-back-in": revertAt.map { .integer(max(0, $0 - Uptime.milliseconds) / 1000) },
                    "damage": damage.map { .text($0) },
                ])
            case "show": return ["site": .text(siteText), "name": .text(siteName)]
            case "plan":
                guard let text = request["site"]?.text else {
                    return ["lines": .texts(planLines), "nftables": rulesetDocument]
                }
                let planned = try plan(text, name: request["name"]?.text ?? "site")
                return [
                    "added": .texts(planned.added), "removed": .texts(planned.removed),
                    "warnings": .texts(planned.plan.warnings + planned.plan.absent),
                ]
            case "apply":
                guard let text = request["site"]?.text else { return ["error": "apply wants a site"] }
                return Self.answer(
                    try commit(
                        text, name: request["name"]?.text ?? "site", user: Self.name(of: user),
                        comment: request["comment"]?.text ?? "", confirm: try Self.seconds(request["confirm"])))
            case "confirm": return ["commit": .integer(try confirm())]
            case "history": return ["commits": history()]
            case "commit":
                guard let number = request["number"]?.integer else { return ["error": "commit wants a number"] }
                return try store.commit(number).json
            case "rollback":
                guard let number = request["number"]?.integer else { return ["error": "rollback wants a number"] }
                return Self.answer(
                    try rollBack(
                        to: number, user: Self.name(of: user), confirm: try Self.seconds(request["confirm"])))
            case "counters": return try counters()
            case "lease":
                followFacts()
                return [:]
            default:
                return [
                    "error": .text(
                        "the request \"\(request["do"]?.text ?? "")\" is not known; known are status, show, plan, apply, "
                            + "confirm, history, commit, rollback, counters, lease")
                ]
            }
        } catch {
            return ["error": .text("\(error)")]
        }
    }

    private static func answer(_ done: Committed) -> JSON {
        [
            "commit": .integer(done.number), "added": .integer(done.added), "removed": .integer(done.removed),
            "warnings": .texts(done.warnings),
        ]
    }

    private static func name(of user: uid_t) -> String {
        getpwuid(user).map { String(cString: $0.pointee.pw_name) } ?? "user \(user)"
    }

    /// How long a commit waits for its confirmation, at most a day; nil when it needs none.
    private static func seconds(_ value: JSON?) throws -> Int? {
        guard let value else { return nil }
        guard let seconds = value.integer, (1...86_400).contains(seconds) else {
            throw EngineError("confirm is a number of seconds from 1 to 86400, found \(value.line)")
        }
        return seconds
    }
}
