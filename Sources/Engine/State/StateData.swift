import Documents
import Netlink
import Planning
import PluginKit
import Schema

/// Configuration and state as data of the plugins' YANG modules.
final class StateData {
    let places: Places
    private let planner: Planner
    let routes: RouteSocket
    private let configuration: Configuration
    let applier: PlanApplier
    let facts: FactSources
    let health: HealthMonitor
    let feeds: Feeds

    init(
        places: Places, planner: Planner, routes: RouteSocket, configuration: Configuration, applier: PlanApplier,
        facts: FactSources, health: HealthMonitor, feeds: Feeds
    ) {
        (self.places, self.planner, self.routes, self.configuration) = (places, planner, routes, configuration)
        (self.applier, self.facts, self.health, self.feeds) = (applier, facts, health, feeds)
    }

    var history: JSON { configuration.history() }

    /// Reads what an answer is made of.
    ///
    /// - Returns: what makes the data of the datastore as RFC 7951 has them, with secrets masked,
    ///   on any thread.
    func reading(_ request: DataRequest, for caller: EngineRequest) throws -> @Sendable () throws -> JSON {
        let hasConfiguration = request.isConfiguration != false
        let configured = try hasConfiguration ? configuration(of: request.datastore, for: caller) : [:]
        var lists: [(keys: [String], objects: [String: JSON])] = []
        if request.datastore == .operational, request.isConfiguration != true {
            var known: [String: [String: JSON]] = [:]
            for manifest in planner.manifests {
                for list in manifest.state {
                    let keys = [manifest.key] + list.path.split(separator: ".").map(String.init)
                    guard request.concerns(keys) else { continue }
                    let objects = try known[list.collection] ?? state(of: list.collection)
                    known[list.collection] = objects
                    lists.append((keys, masked(objects.filter { list.has($0.key) })))
                }
            }
        }
        return { [lists, folder = places.plugins] in
            var tree = StateTree(schema: Schema.all(in: folder), data: configured)
            for (keys, objects) in lists where tree.list(at: keys) != nil { tree.fill(keys, with: objects) }
            return tree.schema.instanceData(of: tree.selection(at: request.path, depth: request.depth))
        }
    }

    private func masked(_ objects: [String: JSON]) -> [String: JSON] {
        JSON(Node(.object(objects), position: configuration.site.position).masked).object ?? [:]
    }

    private func configuration(of datastore: DataRequest.Datastore, for caller: EngineRequest) throws -> JSON {
        switch datastore {
        case .running: return JSON(configuration.site.masked)
        // What the box has may be of earlier documents.
        case .operational:
            return JSON(
                try configuration.siteReader.read(
                    configuration.appliedDocuments ?? configuration.documents, name: "site"
                ).node.masked)
        case .candidate:
            let document = try caller.document()
            let changed = try configuration.documents.with(
                configuration.candidateText(of: document), as: document)
            return JSON(try configuration.siteReader.read(changed, name: "candidate").node.masked)
        }
    }
}
