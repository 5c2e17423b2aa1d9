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
                ])
            case "show": return ["site": .text(siteText), "name": .text(siteName)]
            case "plan":
                guard let text = request["site"]?.text else {
                    return ["lines": .texts(planLines), "nftables": rulesetDocument]
                }
                let (plan, added, removed) = try plan(text, name: request["name"]?.text ?? "site")
                return [
                    "added": .texts(added), "removed": .texts(removed), "warnings": .texts(plan.warnings + plan.absent),
                ]
            case "apply":
                guard let text = request["site"]?.text else { return ["error": "apply wants a site"] }
                let done = try applySite(text, name: request["name"]?.text ?? "site")
                return [
                    "added": .integer(done.added), "removed": .integer(done.removed), "warnings": .texts(done.warnings),
                ]
            case "counters": return try counters()
            case "lease":
                followFacts()
                return [:]
            default:
                return [
                    "error": .text(
                        "the request \"\(request["do"]?.text ?? "")\" is not known; known are status, show, plan, apply, "
                            + "counters, lease")
                ]
            }
        } catch {
            return ["error": .text("\(error)")]
        }
    }
}
