import Documents
import Glibc
import Netlink
import Planning
import PluginKit

/// Looks whether this release can go on with what the box follows, without touching anything: before it is started for the first time, from a
/// root of its own beside the one that runs.
public enum SiteCheck {
    /// - Returns: remarks for people.
    /// - Throws: ``InvalidSite`` and what else keeps it from being planned; that a document can't be migrated, or what daemons keep can't be copied, too.
    public static func run(_ places: Places = Places()) throws -> [String] {
        let planner = try places.planner()
        let store = CommitStore(folder: places.commits, release: nil)
        let reader = SiteReader(places: places, manifests: planner.manifests)
        var nodes: [SiteDocument: Node]
        if let number = try store.head().commit {
            let commit = try store.commit(number)
            nodes = try reader.nodes(of: commit.documents, name: "commit \(number)")
            for document in commit.documents.given {
                guard let node = nodes[document] else { continue }
                let migration = Migration(node, from: commit.versions, by: planner.plugins)
                if !migration.failed.isEmpty { throw InvalidSite(problems: migration.failed) }
                nodes[document] = migration.document ?? node
            }
        } else {
            nodes = try reader.nodes(of: SiteDocuments(), name: "")
        }
        let document = reader.merge(nodes).node
        try PluginStates(places: places).checkRoom(for: planner.manifests)
        let wanted = Set(planner.plugins.flatMap(\.manifest.facts))
        let facts = try places.facts(RouteSocket(), FactStore(places: places), wanted)
        let plan = try planner.plan(site: document, facts: facts, now: time(nil))
        return plan.absent + plan.warnings
    }
}
