import Documents
import Files
import Planning
import PluginKit

/// What the box has, as far as the engine put it there. It lies on /run: a restarted engine knows by it what its
/// predecessor did, and a restarted box has none of it.
struct AppliedState {
    /// The last plan that was applied whole: what is put back when another one fails.
    var plan = Plan()
    /// What may be there beside it, of plans that were not applied whole: it is only ever taken away.
    var leftovers: [String: PlannedResource] = [:]
    /// What a commit that waits for its confirmation took the place of.
    var fallback: Plan?
    /// False while a transaction is under way, and after one that could neither be ended nor put back.
    var isSettled = true
    /// What sysctls were before the engine set them, by key.
    var sysctls: [String: String] = [:]

    /// All that may be there.
    var everything: [String: PlannedResource] { plan.resources.merging(leftovers) { $1 } }

    /// The state between this one and `new`.
    func onTheWay(to new: Plan) -> AppliedState {
        var state = self
        state.isSettled = false
        state.leftovers.merge(new.resources) { $1 }
        return state
    }

    /// The state in which a plan was applied whole.
    func settled(_ plan: Plan) -> AppliedState {
        var state = self
        (state.plan, state.leftovers, state.isSettled) = (plan, [:], true)
        let keys = plan.all.sysctls
        state.sysctls = sysctls.filter { keys.contains($0.key) }
        return state
    }

    // MARK: - Its file

    func save(to path: String) throws {
        let head: JSON = [
            "settled": .boolean(isSettled), "fallback": .boolean(fallback != nil),
            "sysctls": .object(sysctls.mapValues { .text($0) }),
        ]
        func lines(_ part: String, _ resources: [String: PlannedResource]) -> [String] {
            resources.values.sorted { $0.line < $1.line }.map { "\(part)\t\($0.plugin)\t\($0.line)" }
        }
        let all =
            [head.line] + lines("plan", plan.resources) + lines("leftover", leftovers)
            + lines("fallback", fallback?.resources ?? [:])
        try FileSystem.replace(path, with: all.joined(separator: "\n") + "\n")
    }

    /// Nil when no engine ran here before since the box was started.
    init?(at path: String) {
        guard let bytes = try? FileSystem.read(path) else { return nil }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        guard let first = lines.first, let head = try? JSON.parse(first.utf8) else { return nil }
        isSettled = head["settled"] == .boolean(true)
        if head["fallback"] == .boolean(true) { fallback = Plan() }
        if case .object(let values)? = head["sysctls"] { sysctls = values.compactMapValues(\.text) }
        for line in lines.dropFirst() {
            let columns = line.split(separator: "\t", maxSplits: 2).map(String.init)
            guard columns.count == 3, let json = try? JSON.parse(columns[2].utf8), let resource = try? Resource(json)
            else {
                // Written by another version of us: what it says is not known to hold.
                isSettled = false
                continue
            }
            let planned = PlannedResource(resource: resource, plugin: columns[1], line: columns[2])
            switch columns[0] {
            case "plan": plan.resources[planned.key] = planned
            case "fallback": fallback?.resources[planned.key] = planned
            default: leftovers[planned.key] = planned
            }
        }
    }

    init() {}
}
