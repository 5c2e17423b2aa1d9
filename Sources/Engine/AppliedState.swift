import Documents
import Files
import Planning
import PluginKit

/// What the box has, as far as the engine put it there. It lies on /run: a restarted engine knows by it what its
/// predecessor did, and a restarted box has none of it.
struct AppliedState {
    var plan = Plan()
    /// False while a transaction is under way. Whoever finds it so must expect anything of what both plans name.
    var isSettled = true
    /// What sysctls were before the engine set them, by key.
    var sysctls: [String: String] = [:]

    /// The state between this one and `new`: all that either of them names.
    func onTheWay(to new: Plan) -> AppliedState {
        var state = self
        state.isSettled = false
        state.plan.resources.merge(new.resources) { $1 }
        return state
    }

    func save(to path: String) throws {
        let head: JSON = [
            "settled": .boolean(isSettled), "sysctls": .object(sysctls.mapValues { .text($0) }),
        ]
        let lines = plan.resources.values.sorted { $0.line < $1.line }.map { "\($0.plugin)\t\($0.line)" }
        try FileSystem.replace(path, with: ([head.line] + lines).joined(separator: "\n") + "\n")
    }

    /// Nil when no engine ran here before since the box was started.
    init?(at path: String) {
        guard let bytes = try? FileSystem.read(path) else { return nil }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        guard let first = lines.first, let head = try? JSON.parse(first.utf8) else { return nil }
        isSettled = head["settled"] == .boolean(true)
        if case .object(let values)? = head["sysctls"] { sysctls = values.compactMapValues(\.text) }
        for line in lines.dropFirst() {
            let columns = line.split(separator: "\t", maxSplits: 1)
            guard columns.count == 2, let json = try? JSON.parse(columns[1].utf8), let resource = try? Resource(json)
            else {
                // Written by another version of us: what it says is not known to hold.
                isSettled = false
                continue
            }
            let planned = PlannedResource(resource: resource, plugin: String(columns[0]), line: String(columns[1]))
            plan.resources[planned.key] = planned
        }
    }

    init() {}
}
