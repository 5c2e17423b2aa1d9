import Netlink
import Planning
import PluginKit

/// The links that a plan's addresses, routes and sysctls name.
struct PlannedLinks {
    private let byName: [String: Link]
    private let byIndex: [Int: String]
    /// Links that a service has not made yet, and those that need them.
    let waiting: Set<String>

    init(_ plan: Plan, present: [Link]) throws {
        let byName = Dictionary(present.map { ($0.name, $0) }) { $1 }
        self.byName = byName
        byIndex = Dictionary(present.map { ($0.index, $0.name) }) { $1 }
        waiting = try LinkGraph(plan.values(LinkResource.self)).waiting { byName[$0] != nil }
    }

    /// A link's index; nil for a link that waits for a service.
    ///
    /// - Throws: where no link has the name.
    func index(of name: String) throws -> Int? {
        if waiting.contains(name) { return nil }
        guard let link = byName[name] else { throw EngineError("there is no link \(name)") }
        return link.index
    }

    func name(of index: Int) -> String { byIndex[index] ?? "link \(index)" }
}
