import Documents
import Files
import Planning
import PluginKit

/// What the box has, as far as the engine put it there. It lies on /run: a restarted engine knows by it what its
/// predecessor did, and a restarted box has none of it.
struct AppliedState {
    /// The last plan that was applied whole: what is restored when another one fails.
    var plan = Plan()
    /// What may be there beside it, of plans that were not applied whole: it is only ever taken away.
    var leftovers: [ResourceKey: PlannedResource] = [:]
    /// What a commit that waits for its confirmation took the place of.
    var fallback: Plan?
    /// False while a transaction is under way, and after one that could neither be finished nor
    /// undone.
    var isSettled = true
    /// Kinds that a transaction which is not finished changes; nil where any kind may differ from the
    /// plan, as after the box has booted.
    var changingKinds: Set<String>?
    /// What sysctls were before the engine set them, by key.
    var sysctls: [String: String] = [:]

    /// All that may be there.
    var everything: [ResourceKey: PlannedResource] { plan.resources.merging(leftovers) { $1 } }

    /// The state between this one and `new`.
    func onTheWay(to new: Plan) -> AppliedState {
        var state = self
        let added = new.beyond(plan)
        let kinds = Set((added + plan.beyond(new)).map(\.key.kind))
        state.changingKinds = isSettled ? kinds : changingKinds?.union(kinds)
        state.isSettled = false
        for planned in added { state.leftovers[planned.key] = planned }
        return state
    }

    /// The state in which a plan was applied whole.
    func settled(_ plan: Plan) -> AppliedState {
        var state = self
        (state.plan, state.leftovers, state.isSettled) = (plan, [:], true)
        state.changingKinds = []
        let keys = Set(plan.values(SysctlResource.self).map(\.key))
        state.sysctls = sysctls.filter { keys.contains($0.key) }
        return state
    }

    // MARK: - Its files

    /// The plan lies in a file of its own, which is written when it is another; what else there is, in `PATH.now`.
    ///
    /// - Parameter known: what lies there.
    func save(to path: String, knowing known: AppliedState?) throws {
        let head: JSON = [
            "settled": .boolean(isSettled), "fallback": .boolean(fallback != nil),
            "sysctls": .object(sysctls.mapValues { .text($0) }),
        ]
        var bytes = Array((head.line + "\n").utf8)
        for planned in leftovers.values { planned.write("leftover", into: &bytes) }
        for planned in fallback?.ordered ?? [] { planned.write("fallback", into: &bytes) }
        // A fall between the two finds what is not settled, or a plan that was applied whole.
        let isSame = known.map { $0.plan.ordered.count == plan.ordered.count && plan.beyond($0.plan).isEmpty } ?? false
        if !isSame {
            var lines: [UInt8] = []
            for planned in plan.ordered { planned.write("plan", into: &lines) }
            try FileSystem.replace(path, with: lines, mode: 0o600)
        }
        try FileSystem.replace(path + ".now", with: bytes, mode: 0o600)
    }

    /// Nil when no engine ran here before since the box was started.
    ///
    /// - Parameter customKinds: kinds that plugins' drivers add.
    init?(at path: String, customKinds: Set<String>) {
        guard let now = try? FileSystem.read(path + ".now"), let lines = try? FileSystem.read(path) else { return nil }
        let end = now.firstIndex(of: UInt8(ascii: "\n")) ?? now.endIndex
        guard let head = try? JSON.parse(now[..<end]) else { return nil }
        isSettled = head["settled"] == .boolean(true)
        if case .object(let values)? = head["sysctls"] { sysctls = values.compactMapValues(\.text) }
        var (whole, before): ([PlannedResource], [PlannedResource]) = ([], [])
        for line in lines.split(separator: UInt8(ascii: "\n")) + now[end...].split(separator: UInt8(ascii: "\n")) {
            guard let (part, planned) = PlannedResource.read(line, customKinds) else {
                // Written by another version of us: what it says is not known to hold.
                isSettled = false
                continue
            }
            switch part {
            case "plan": whole.append(planned)
            case "fallback": before.append(planned)
            default: leftovers[planned.key] = planned
            }
        }
        plan = Plan(whole)
        changingKinds = isSettled ? [] : nil
        if head["fallback"] == .boolean(true) { fallback = Plan(before) }
    }

    init() {}
}

extension PlannedResource {
    /// A line of a file: what it is there for, the plugin, and the line of the plan.
    fileprivate func write(_ part: String, into bytes: inout [UInt8]) {
        for column in [part, "\t", plugin, "\t", line, "\n"] { bytes.append(contentsOf: column.utf8) }
    }

    fileprivate static func read(
        _ line: ArraySlice<UInt8>, _ customKinds: Set<String>
    ) -> (part: String, planned: PlannedResource)? {
        let columns = line.split(separator: UInt8(ascii: "\t"), maxSplits: 2)
        guard columns.count == 3, let json = try? JSON.parse(columns[2]),
            let resource = try? Resource(json, customKinds: customKinds)
        else {
            return nil
        }
        func text(_ column: ArraySlice<UInt8>) -> String { String(decoding: column, as: UTF8.self) }
        return (
            text(columns[0]),
            PlannedResource(
                resource: resource, plugin: text(columns[1]), line: text(columns[2]), path: json["at"]?.text)
        )
    }
}
