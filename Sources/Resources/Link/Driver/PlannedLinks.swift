import Netlink
import Planning
import PluginKit

/// The links that a plan's addresses, routes and rules name.
struct PlannedLinks {
    private let present: [Link]
    /// Links that a service makes, and that may be absent.
    private let external: Set<String>

    init(_ plan: Plan, present: [Link]) {
        self.present = present
        external = Set(plan.values(LinkResource.self).filter { $0.type.as(ExternalLink.self) != nil }.map(\.name))
    }

    /// A link's index; nil for a link that a service has not made yet.
    ///
    /// - Throws: where no link has the name.
    func index(of name: String) throws -> Int? {
        if let link = present.first(where: { $0.name == name }) { return link.index }
        guard external.contains(name) else { throw EngineError("there is no link \(name)") }
        return nil
    }

    func name(of index: Int) -> String { present.first { $0.index == index }?.name ?? "link \(index)" }
}
