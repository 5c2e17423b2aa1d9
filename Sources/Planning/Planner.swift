import Documents
import PluginKit

/// A resource as a plugin planned it.
public struct PlannedResource: Hashable, Sendable {
    public var resource: Resource
    public var plugin: String
    /// As the plugin wrote it: a plan is compared by its lines.
    public var line: String

    public init(resource: Resource, plugin: String, line: String) {
        self.resource = resource
        self.plugin = plugin
        self.line = line
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
    let plugins: [(runner: PluginRunner, manifest: PluginManifest)]

    public init(_ plugins: [(runner: PluginRunner, manifest: PluginManifest)]) { self.plugins = plugins }

    /// The plugins of a folder. What each is stands in its manifest's file: the builder has seen to it that the plugin
    /// itself says the same.
    ///
    /// - Parameter hiding: folders of which the plugins see nothing.
    public init(folder: String, hiding: [String]) throws {
        plugins = try PluginRunner.all(in: folder, hiding: hiding).map {
            ($0, try PluginManifest.read("\(folder)/\($0.name)/manifest.json"))
        }
    }

    /// - Throws: ``InvalidSite`` with positions in `site`; ``PluginFailure`` when a plugin fails.
    public func plan(site: Node, facts: Facts) throws -> Plan {
        var problems: [String] = []
        var plan = Plan()
        let configurations = try configurations(of: site, &plan, &problems)
        func note(_ json: JSON, _ plugin: (runner: PluginRunner, manifest: PluginManifest)) -> Bool {
            guard let diagnostic = Diagnostic(json) else { return false }
            let path = plugin.manifest.key + (diagnostic.path.isEmpty ? "" : "." + diagnostic.path)
            let problem = Problem(
                position: site.node(at: path).position, path: path, message: diagnostic.message, hint: diagnostic.hint)
            switch diagnostic.severity {
            case .error: problems.append("error: \(problem)")
            case .absent: plan.absent.append("absent: \(problem)")
            case .warning: plan.warnings.append("warning: \(problem)")
            }
            return true
        }

        var published: [String: [String: JSON]] = [:]
        var publishers: [String: String] = [:]
        let said = try Self.ask(configurations.map(\.plugin.runner), "publish") { i in
            ["configuration": configurations[i].configuration, "facts": facts.json]
        }
        for ((plugin, _), lines) in zip(configurations, said) {
            for line in lines {
                if note(line, plugin) { continue }
                guard let collection = line["publish"]?.text, let name = line["name"]?.text, let value = line["value"]
                else {
                    throw PluginFailure(
                        "plugin \(plugin.runner.name) publish: a line says nothing known: \(line.line.prefix(120))")
                }
                if let other = publishers.updateValue(plugin.runner.name, forKey: "\(collection) \(name)") {
                    problems.append(
                        "error: plugins \(other) and \(plugin.runner.name) both publish \(name) in \(collection)")
                }
                published[collection, default: [:]][name] = value
            }
        }
        // Each would only say again that what others could not read is missing.
        guard problems.isEmpty else { throw InvalidSite(problems: problems) }
        let values = JSON.object(published.mapValues { .object($0) })
        let planned = try Self.ask(configurations.map(\.plugin.runner), "plan") { i in
            ["configuration": configurations[i].configuration, "facts": facts.json, "published": values]
        }
        for ((plugin, _), lines) in zip(configurations, planned) {
            for line in lines {
                if note(line, plugin) { continue }
                try add(line, of: plugin, to: &plan, &problems)
            }
        }
        if let violation = TablePlan.guardViolation(plan.all) { problems.append("error: \(violation)") }
        guard problems.isEmpty else { throw InvalidSite(problems: problems) }
        return plan
    }

    /// Asks all of them at once: they know nothing of each other. Answers come in their order.
    private static func ask(
        _ runners: [PluginRunner], _ verb: String, _ input: (Int) -> JSON
    ) throws -> [[JSON]] {
        let asked = try runners.enumerated().map { try $1.begin(verb, input($0)) }
        return try asked.map { try $0.answer() }
    }

    private func add(
        _ line: JSON, of plugin: (runner: PluginRunner, manifest: PluginManifest), to plan: inout Plan,
        _ problems: inout [String]
    ) throws {
        let name = plugin.runner.name
        let resource: Resource
        do {
            resource = try Resource(line)
        } catch {
            throw PluginFailure("plugin \(name) plan: \(error)")
        }
        guard plugin.manifest.resources.contains(resource.kind.rawValue) else {
            throw PluginFailure("plugin \(name) plan: its manifest says nothing of the kind \(resource.kind.rawValue)")
        }
        if let wrong = Self.misnamed(resource, plugin: name) { throw PluginFailure("plugin \(name) plan: \(wrong)") }
        let planned = PlannedResource(resource: resource, plugin: name, line: line.line)
        let key = planned.key
        if let other = plan.resources[key] {
            // Equal wishes for what is nobody's own are no conflict.
            let isShared = resource.kind == .sysctl || resource.kind == .kernelModule
            if isShared, other.line == planned.line { return }
            problems.append("error: plugins \(other.plugin) and \(name) both want \(key)")
            return
        }
        plan.resources[key] = planned
    }

    /// Names within what is everybody's begin with the plugin's own, so that no two can meet.
    private static func misnamed(_ resource: Resource, plugin: String) -> String? {
        let name: String
        switch resource {
        case .chain(let chain, _): name = chain.name
        case .set(let set): name = set.name
        case .counter(let counter): name = counter.name
        case .service(let service):
            return service.name.hasPrefix(plugin + "-") ? nil : "the service \(service.name) must be named \(plugin)-…"
        case .file(let path, _, _, _), .directory(let path, _, _):
            let own = ["/run/vcpe/\(plugin)", "/data/\(plugin)"]
            return own.contains { path == $0 || path.hasPrefix($0 + "/") }
                ? nil : "\(path) is not below \(own.joined(separator: " or "))"
        default: return nil
        }
        return name.hasPrefix(plugin + ".") ? nil : "\(name) must be named \(plugin).…"
    }

    /// Each plugin's part of the document. A part that no plugin of this image reads is an error with a did-you-mean.
    private func configurations(
        of site: Node, _ plan: inout Plan, _ problems: inout [String]
    ) throws -> [(plugin: (runner: PluginRunner, manifest: PluginManifest), configuration: JSON)] {
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
            problems.append("error: \(problem)")
        }
        return plugins.compactMap { plugin in
            entries.first { $0.key == plugin.manifest.key }.map { (plugin, JSON($0.value)) }
        }
    }
}
