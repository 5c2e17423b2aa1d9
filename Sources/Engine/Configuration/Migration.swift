import Documents
import Planning
import PluginKit

/// What plugins of another version than those that planned a document make of it. Who keeps the document keeps it as it was given.
struct Migration {
    /// Nil when nothing changes.
    private(set) var document: Node?
    /// For people: what was migrated, and what could not be.
    private(set) var done: [String] = []
    private(set) var failed: [String] = []

    /// - Parameter versions: of the plugins that planned the document, by name.
    init(_ given: Node, from versions: [String: String], by plugins: [Planner.Member]) {
        for plugin in plugins {
            let (name, manifest) = (plugin.manifest.name, plugin.manifest)
            guard let version = versions[name], version != manifest.version, let part = given[manifest.key]?.value
            else { continue }
            do {
                let input: JSON = ["configuration": JSON(part), "from": .text(version)]
                let answer = try plugin.runner.ask("migrate", input)
                guard answer.count == 1 else {
                    throw PluginFailure("plugin \(name) migrate: its answer is not one line")
                }
                guard answer[0] != JSON(part) else { continue }
                document = try (document ?? given).setting(
                    Node(answer[0], position: part.position), at: DocumentPath(manifest.key))
                done.append("\(name): the configuration of version \(version) is migrated to \(manifest.version)")
            } catch {
                failed.append("\(name): the configuration of version \(version) can't be migrated: \(error)")
            }
        }
        if document == given { document = nil }
    }
}
