import Documents
import Files
import PluginKit

/// A resource as a plugin planned it. Plans of tens of thousands share them: one that did not
/// change is the same object in the next plan.
public final class PlannedResource: Hashable, Sendable {
    public let resource: Resource
    public let plugin: String
    /// As the plugin wrote it, with numbers in place of names: a plan is compared by its lines.
    public let line: String
    /// As the plugin wrote it.
    public let written: String
    /// The node of the plugin's configuration that wants it, where the plugin says so: a path in the
    /// plugin's own part of the document.
    public let path: String?
    public let key: ResourceKey
    /// Nearly all lines are: strings of ASCII compare by their bytes, and faster than
    /// ``LineBytes``.
    private let isASCII: Bool

    public init(resource: Resource, plugin: String, line: String, written: String? = nil, path: String? = nil) {
        self.resource = resource
        self.plugin = plugin
        self.line = line
        self.written = written ?? line
        self.path = path
        key = resource.key
        isASCII = line.utf8.allSatisfy { $0 < 0x80 }
    }

    public static func == (left: PlannedResource, right: PlannedResource) -> Bool {
        left === right
            || left.hasLine(of: right) && left.plugin == right.plugin
                && LineBytes(left.written) == LineBytes(right.written) && left.path == right.path
                && left.resource == right.resource
    }

    /// Whether the lines are the same, byte by byte.
    fileprivate func hasLine(of other: PlannedResource) -> Bool {
        isASCII && other.isASCII ? line == other.line : LineBytes(line) == LineBytes(other.line)
    }

    /// Whether it stands before another one in a plan: lines are in the order of their bytes.
    public func precedes(_ other: PlannedResource) -> Bool {
        isASCII && other.isASCII ? line < other.line : LineBytes(line) < LineBytes(other.line)
    }

    public func hash(into hasher: inout Hasher) { hasher.combine(line) }
}

/// What the box shall have, of all plugins together.
public struct Plan: Sendable {
    /// In the order of their lines.
    public let ordered: [PlannedResource]
    /// By kind and identity.
    public let resources: [ResourceKey: PlannedResource]
    /// The objects of the nftables table, in the order of their lines.
    public let filter: [NftablesResource]
    /// All but these, which may be tens of thousands, in the order of their lines.
    public let others: [Resource]
    /// What plugins say that keeps nothing from being applied.
    public var warnings: [String] = []
    /// What is named and isn't there now.
    public var absent: [String] = []
    /// What became of what, where somebody asked.
    public var notes: [String] = []
    /// When the same document may mean something else, in seconds since 1970.
    public var replanAt: Int?
    /// The plugins' answers, by verb and plugin: a plugin is not asked again for the same input.
    var answers: [String: PluginAnswer] = [:]

    /// - Parameter planned: each with a key of its own.
    public init(_ planned: [PlannedResource] = []) {
        self.init(planned, Dictionary(planned.map { ($0.key, $0) }) { $1 })
    }

    /// - Parameters:
    ///   - planned: each with a key of its own.
    ///   - resources: the same by their keys.
    init(_ planned: [PlannedResource], _ resources: [ResourceKey: PlannedResource]) {
        ordered = planned.sorted { $0.precedes($1) }
        self.resources = resources
        var (filter, others): ([NftablesResource], [Resource]) = ([], [])
        for planned in ordered {
            if let object = planned.resource.as(NftablesResource.self) {
                filter.append(object)
            } else {
                others.append(planned.resource)
            }
        }
        (self.filter, self.others) = (filter, others)
    }

    /// The values of one kind, in the order of their lines.
    public func values<Value: ResourceType>(_ type: Value.Type) -> [Value] {
        // The cast of an empty array succeeds for every type.
        type == NftablesResource.self ? filter as? [Value] ?? [] : others.of(type)
    }

    public var lines: [String] { ordered.map(\.line) }

    /// In the order of their lines.
    public var all: [Resource] { ordered.map(\.resource) }

    /// What of this plan isn't in another, or is otherwise there.
    public func beyond(_ other: Plan) -> [PlannedResource] {
        var result: [PlannedResource] = []
        var rest = other.ordered[...]
        for planned in ordered {
            // Both are in order, and what did not change is the same object.
            while let first = rest.first, first !== planned, first.precedes(planned) { rest.removeFirst() }
            if let first = rest.first, first === planned || first.hasLine(of: planned) {
                rest.removeFirst()
            } else {
                result.append(planned)
            }
        }
        return result
    }
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
        /// One of the project's own; others have bounds that no manifest moves
        /// (``ForeignPlugins``).
        public let isOwn: Bool
        let granted: Permissions

        public init(_ runner: PluginRunner, _ manifest: PluginManifest, isOwn: Bool) {
            self.runner = runner
            self.manifest = manifest
            self.isOwn = isOwn
            granted = manifest.granted
        }

        /// - Throws: ``PermissionViolation`` for what no such plugin may have.
        public func checkManifest() throws(PermissionViolation) {
            if let objection = ForeignPlugins.objection(toName: manifest.name, isOwn: isOwn) { throw objection }
            if let objection = isOwn ? nil : ForeignPlugins.objections(to: manifest).first { throw objection }
        }
    }

    public let plugins: [Member]
    public var manifests: [PluginManifest] { plugins.map(\.manifest) }
    /// The numbers that the plugins share.
    public let allocation: Allocation

    /// Kinds of resources that the plugins' drivers add to those of the engine.
    public var customKinds: Set<String> { Set(plugins.flatMap { $0.manifest.drivers.map(\.kind) }) }

    /// - Throws: ``Allocation/Conflict`` when the plugins can't be used together.
    public init(_ plugins: [Member]) throws {
        self.plugins = plugins
        allocation = try Allocation(of: plugins.map(\.manifest))
    }

    /// The plugins of a folder. What each is stands in its manifest's file: the builder has seen to it that the plugin
    /// itself says the same.
    ///
    /// - Parameter forPreviews: whether they run beside those of the engine.
    /// - Throws: ``PluginFailure`` also for a kind that two plugins drive, or none.
    public init(folder: String, forPreviews: Bool = false) throws {
        let own = try ForeignPlugins.own(in: folder)
        plugins = try PluginRunner.all(in: folder, forPreviews: forPreviews).map {
            let manifest = try PluginManifest.read("\(folder)/\($0.name)/manifest.json")
            return Member($0, manifest, isOwn: own.contains($0.name))
        }
        let problems = PluginManifest.kindProblems(of: plugins.map(\.manifest))
        if !problems.isEmpty {
            let text = problems.map { "\($0.message); \($0.hint)" }.joined(separator: "\n")
            throw PluginFailure("\(folder): \(text)")
        }
        allocation = try Self.allocation(of: plugins.map(\.manifest), folder: folder)
    }

    /// The allocation that the image was built with. A folder without its file is not that of an image.
    private static func allocation(of manifests: [PluginManifest], folder: String) throws -> Allocation {
        let file = "\(folder)/\(Allocation.fileName)"
        guard FileSystem.exists(file) else { return try Allocation(of: manifests) }
        let problems = ProblemList()
        let found = Allocation.shape.read(
            try YAML.read(try FileSystem.read(file), file: file), path: "", into: problems)
        try problems.throwIfAny()
        // The order of the plugins is the definition's, which the file alone has.
        for manifest in manifests where found?.share(of: manifest.name).isOf(manifest.allocates) != true {
            throw PluginFailure(
                "\(file): the allocation for the plugin \(manifest.name) is not what its manifest needs: build the image "
                    + "anew")
        }
        return found ?? Allocation()
    }

    /// - Parameters:
    ///   - now: seconds since 1970, the same for all of them.
    ///   - explains: whether notes are wanted of what becomes of what.
    ///   - known: an earlier plan. A plugin whose input is the same is not asked again, and a line that
    ///     did not change is not read again.
    /// - Throws: ``InvalidSite`` with positions in `site`; ``PluginFailure`` when a plugin fails.
    public func plan(
        site: Node, facts: Facts, now: Int, knowing known: Plan = Plan(), explains: Bool = false
    ) throws -> Plan {
        var assembly = PlanAssembly(site: site, known: known, planner: self)
        var answers: [String: PluginAnswer] = [:]
        let configured = try configurations(of: site, &assembly)
        // Written once, however large it is: what both inputs of a plugin begin with.
        let beginnings = configured.map { member, configuration in
            let contract = member.manifest.contract.map { "\"contract\":\($0)," } ?? ""
            let share = allocation.share(of: member.manifest.name)
            let allocated = share.isEmpty ? "" : "\"allocated\":\(share.json.line),"
            var beginning = Array("{\(allocated)\(contract)\"configuration\":".utf8)
            configuration.writeJSON(into: &beginning)
            beginning += ",\"facts\":\(facts.only(member.manifest.facts).json.line)".utf8
            return beginning
        }
        func ask(
            _ verb: String, _ members: [(member: Member, input: [UInt8])]
        ) throws -> [(member: Member, question: PluginAnswer.Question, answer: PluginAnswer)] {
            // They know nothing of each other, and work at once.
            let asked = try members.map {
                ($0.member, try PluginAnswer.Question(verb, of: $0.member, $0.input, now: now, knowing: known.answers))
            }
            return try asked.map { ($0, $1, try $1.answer()) }
        }
        let publishers = zip(configured, beginnings).filter { $0.0.plugin.manifest.publishes != [] }
            .map { ($0.0.plugin, $0.1) }
        for (plugin, question, answer) in try ask("publish", publishers) {
            answers[question.key] = answer
            for line in answer.lines { try assembly.takePublished(try question.json(line), of: plugin) }
        }
        // Each would only say again that what others could not read is missing.
        try assembly.throwIfAny()
        let planners = zip(configured, beginnings).map { configured, beginning in
            let published = assembly.published.filter { configured.plugin.manifest.reads?.contains($0.key) ?? true }
            let asked = explains ? ",\"explain\":true" : ""
            let rest = "\(asked),\"published\":\(JSON.object(published.mapValues { .object($0) }).line)"
            return (configured.plugin, beginning + Array(rest.utf8))
        }
        for (plugin, question, answer) in try ask("plan", planners) {
            var (lines, end) = (answer.lines, Int?.none)
            for i in lines.indices where !assembly.takeKnown(&lines[i], of: plugin) {
                let read = try assembly.takePlanned(try question.json(lines[i]), lines[i].text, of: plugin)
                switch read {
                case .resource(let planned): lines[i].planned = planned
                case .replan(let time): end = min(end ?? time, time)
                case .diagnostic: break
                }
            }
            answers[question.key] = answer.ending(at: end, lines)
        }
        var plan = try assembly.finish()
        plan.answers = answers
        return plan
    }

    /// The node of a document that a resource was planned for: the one that its plugin names, or the
    /// plugin's whole part.
    public func origin(of planned: PlannedResource, in site: Node) -> (path: String, position: SourcePosition) {
        let key = plugins.first { $0.manifest.name == planned.plugin }?.manifest.key ?? ""
        let path = planned.path.map { "\(key).\($0)" } ?? key
        return (path, site.node(at: path).position)
    }

    /// Each plugin's part of the document. A part that no plugin of this image reads is an error with a did-you-mean.
    private func configurations(
        of site: Node, _ assembly: inout PlanAssembly
    ) throws -> [(plugin: Member, configuration: Node)] {
        guard case .mapping(let entries) = site.value else {
            if site.isNull { return try configurations(of: Node(.object([:]), position: site.position), &assembly) }
            throw InvalidSite(problems: ["error: \(site.position): found \(site.summary); allowed is a mapping"])
        }
        let keys = plugins.map(\.manifest.key)
        for entry in entries where !keys.contains(entry.key) {
            let meant = didYouMean(entry.key, among: keys).map { "did you mean \($0)? " } ?? ""
            let problem = Problem(
                position: entry.keyPosition, path: entry.key, message: "no plugin of this image reads this key",
                hint: meant + "keys are \(keys.sorted().joined(separator: ", "))")
            assembly.problems.append("error: \(problem)")
        }
        return try plugins.compactMap { plugin in
            let entry = entries.first { $0.key == plugin.manifest.key }
            guard entry != nil || plugin.manifest.isAlwaysPlanned else { return nil }
            try plugin.manifest.checkContract()
            try plugin.checkManifest()
            return (plugin, entry?.value ?? Node([:], position: site.position))
        }
    }
}
