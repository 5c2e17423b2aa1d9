import Documents
import Files
import Glibc
import Netlink
import Planning
import PluginKit

/// Looks whether this release can go on with what the box follows, without touching anything: before it is started for the first time, from a
/// root of its own beside the one that runs.
public enum SiteCheck {
    /// - Returns: remarks for people.
    /// - Throws: ``InvalidSite`` and what else keeps it from being planned; that a document can't be migrated, too.
    public static func run(_ places: Places = Places()) throws -> [String] {
        let planner = try Planner(folder: places.plugins, hiding: [places.data, places.run, "/sys"])
        let head = try CommitStore(folder: places.commits, release: nil).head()
        var document: Node
        if let number = head.commit {
            let commit = try CommitStore(folder: places.commits, release: nil).commit(number)
            document = try YAML.read(Array(commit.site.utf8), file: "commit \(number)")
            var troubles: [String] = []
            document =
                planner.migrate(document, from: commit.versions, failed: { troubles.append($0) }) { _ in } ?? document
            if !troubles.isEmpty { throw InvalidSite(problems: troubles) }
        } else {
            document = try YAML.read(
                try FileSystem.read(places.factorySite), file: FileSystem.name(of: places.factorySite))
        }
        let routes = try RouteSocket()
        let facts = Facts(
            ports: try Ports.all(routes), leases: Leases(places: places).now().leases,
            consoles: Consoles(folder: places.devices).names)
        let plan = try planner.plan(site: document, facts: facts, now: time(nil))
        return plan.absent + plan.warnings
    }
}

extension Planner {
    /// What plugins of another version than those that planned it make of a document; nil when nothing changes. The commit stays as it was given.
    ///
    /// - Parameters:
    ///   - failed: told what could not be migrated; as `say` when nil.
    ///   - say: told what was.
    func migrate(
        _ document: Node, from versions: [String: String], failed: ((String) -> Void)? = nil, say: (String) -> Void
    ) -> Node? {
        var result = document
        for plugin in plugins {
            let (name, manifest) = (plugin.manifest.name, plugin.manifest)
            guard let version = versions[name], version != manifest.version, let part = document[manifest.key]?.value
            else { continue }
            do {
                let input: JSON = ["configuration": JSON(part), "from": .text(version)]
                let answer = try plugin.runner.ask("migrate", input)
                guard answer.count == 1 else {
                    throw PluginFailure("plugin \(name) migrate: its answer is not one line")
                }
                guard answer[0] != JSON(part) else { continue }
                result = try result.setting(Node(answer[0], position: part.position), at: DocumentPath(manifest.key))
                say("\(name): the configuration of version \(version) is migrated to \(manifest.version)")
            } catch {
                let text = "\(name): the configuration of version \(version) can't be migrated: \(error)"
                if let failed { failed(text) } else { say(text) }
            }
        }
        return result == document ? nil : result
    }
}
