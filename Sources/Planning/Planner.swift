import Documents
import PluginKit

/// A resource as a plugin planned it.
public struct PlannedResource: Hashable, Sendable {
    public var resource: Resource
    public var plugin: String
    /// As the plugin wrote it: a plan is compared by its lines.
    public var line: String
    /// The node of the plugin's configuration that wants it, where the plugin says so.
    public var path: String?

    public init(resource: Resource, plugin: String, line: String, path: String? = nil) {
        self.resource = resource
        self.plugin = plugin
        self.line = line
        self.path = path
    }

    /// What it is found by in a plan.
    public var key: String { "\(resource.kind.rawValue) \(resource.identity)" }
}

/// What the box shall have, of all plugins together.
public struct Plan: Sendable {
    /// By kind and identity.
    public var resources: [String: PlannedResource] = [:]
    /// What plugins say that keeps nothing from being applied.
    public var warnings: [String] = []
    /// What is named and isn't there now.
    public var absent: [String] = []
    /// When the same document may mean something else, in seconds since 1970.
    public var replanAt: Int?

    public init() {}

    /// Sorted.
    public var lines: [String] { resources.values.map(\.line).sorted() }

    /// In the order of their lines.
    public var all: [Resource] { resources.values.sorted { $0.line < $1.line }.map(\.resource) }
}

/// A site document that can't be applied: every problem that was found.
public struct InvalidSite: Error, Sendable, CustomStringConvertible {
    public var problems: [String]

    public init(problems: [String]) { self.problems = problems }

    public var description: String { problems.joined(separator: "\n") }
}

/// A plugin that could not do its work, or whose work can't be used.
public struct PluginFailure: Error, Sendable, CustomStringConvertible {
    public var description: String

    public init(_ description: String) { self.description = description }
}

/// Runs the plugins over a site document: all publish, then all plan.
public struct Planner: Sendable {
    /// A plugin: what it is, and how it is run.
    public struct Member: Sendable {
        public let runner: PluginRunner
        public let manifest: PluginManifest

        public init(_ runner: PluginRunner, _ manifest: PluginManifest) {
            self.runner = runner
            self.manifest = manifest
        }
    }

    public let plugins: [Member]

    public init(_ plugins: [Member]) { self.plugins = plugins }

    /// The plugins of a folder. What each is stands in its manifest's file: the builder has seen to it that the plugin
    /// itself says the same.
    ///
    /// - Parameter hiding: folders of which the plugins see nothing.
    public init(folder: String, hiding: [String]) throws {
        plugins = try PluginRunner.all(in: folder, hiding: hiding).map {
            Member($0, try PluginManifest.read("\(folder)/\($0.name)/manifest.json"))
        }
    }

    /// - Parameter now: seconds since 1970, the same for all of them.
    /// - Throws: ``InvalidSite`` with positions in `site`; ``PluginFailure`` when a plugin fails.
    public func plan(site: Node, facts: Facts, now: Int) throws -> Plan {
        var planning = Planning(site: site)
        let configured = try configurations(of: site, &planning)
        func input(_ i: Int) -> [String: JSON] {
            [
                "contract": configured[i].plugin.manifest.contract.map { .integer($0) } ?? .null,
                "configuration": configured[i].configuration, "facts": facts.json, "now": .integer(now),
            ]
        }
        let runners = configured.map(\.plugin.runner)
        let said = try Self.ask(runners, "publish") { .object(input($0)) }
        for ((plugin, _), lines) in zip(configured, said) {
            for line in lines { try planning.takePublished(line, of: plugin) }
        }
        // Each would only say again that what others could not read is missing.
        try planning.throwIfAny()
        let values = JSON.object(planning.published.mapValues { .object($0) })
        let planned = try Self.ask(runners, "plan") { .object(input($0).merging(["published": values]) { $1 }) }
        for ((plugin, _), lines) in zip(configured, planned) {
            for line in lines { try planning.takePlanned(line, of: plugin) }
        }
        planning.checkWhole()
        try planning.throwIfAny()
        return planning.plan
    }

    /// Asks all of them at once: they know nothing of each other. Answers come in their order.
    private static func ask(
        _ runners: [PluginRunner], _ verb: String, _ input: (Int) -> JSON
    ) throws -> [[JSON]] {
        let asked = try runners.enumerated().map { try $1.begin(verb, input($0)) }
        return try asked.map { try $0.answer() }
    }

    /// Each plugin's part of the document. A part that no plugin of this image reads is an error with a did-you-mean.
    private func configurations(
        of site: Node, _ planning: inout Planning
    ) throws -> [(plugin: Member, configuration: JSON)] {
        guard case .mapping(let entries) = site.value else {
            if site.isNull { return [] }
            throw InvalidSite(problems: ["error: \(site.position): found \(site.summary); allowed is a mapping"])
        }
        let keys = plugins.map(\.manifest.key)
        for entry in entries where !keys.contains(entry.key) {
            let meant = didYouMean(entry.key, among: keys).map { "did you mean \($0)? " } ?? ""
            let problem = Problem(
                position: entry.keyPosition, path: entry.key, message: "no plugin of this image reads this key",
                hint: meant + "keys are \(keys.sorted().joined(separator: ", "))")
            planning.problems.append("error: \(problem)")
        }
        return try plugins.compactMap { plugin in
            guard let entry = entries.first(where: { $0.key == plugin.manifest.key }) else { return nil }
            try plugin.manifest.checkContract()
            return (plugin, JSON(entry.value))
        }
    }
}
