import Documents
import PluginKit

/// A plan in the making: the plugins' answers, line by line, put together and checked.
struct PlanAssembly {
    let site: Node
    private var warnings: [String] = []
    private var absent: [String] = []
    private var notes: [String] = []
    private var replanAt: Int?
    /// As they came.
    private var planned: [PlannedResource] = []
    /// The same by key.
    private var byKey: [ResourceKey: PlannedResource] = [:]
    var problems: [String] = []
    /// By collection and name.
    private(set) var published: [String: [String: JSON]] = [:]
    /// Who published what, by both.
    private var publishers: [String: String] = [:]

    /// Resources that were read before.
    private let known: Plan
    /// The same by their lines: read where an answer does not know what its lines were read as.
    private lazy var byLine: [LineBytes: PlannedResource] = Dictionary(
        known.ordered.map { (LineBytes($0.written), $0) }
    ) { $1 }
    /// Kinds that plugins' drivers add.
    private let customKinds: Set<String>
    /// The plugins, which know the place of a resource in the document.
    private let planner: Planner

    init(site: Node, known: Plan, planner: Planner) {
        self.site = site
        self.planner = planner
        customKinds = planner.customKinds
        self.known = known
        planned.reserveCapacity(known.ordered.count)
        byKey.reserveCapacity(known.ordered.count)
    }

    func throwIfAny() throws {
        if !problems.isEmpty { throw InvalidSite(problems: problems) }
    }

    /// Takes a line that says what is wrong; false for another one.
    private mutating func note(_ json: JSON, _ plugin: Planner.Member) -> Bool {
        guard let diagnostic = Diagnostic(json) else { return false }
        let path = plugin.manifest.key + (diagnostic.path.isEmpty ? "" : "." + diagnostic.path)
        let other = diagnostic.other.map { other in
            let path = "\(plugin.manifest.key).\(other)"
            return " (\(path), \(site.node(at: path).position))"
        }
        let problem = Problem(
            position: site.node(at: path).position, path: path, message: diagnostic.message + (other ?? ""),
            hint: diagnostic.hint)
        switch diagnostic.severity {
        case .error: problems.append("error: \(problem)")
        case .absent: absent.append("absent: \(problem)")
        case .warning: warnings.append("warning: \(problem)")
        case .note: notes.append("note: \(problem)")
        }
        return true
    }

    mutating func takePublished(_ line: JSON, of plugin: Planner.Member) throws {
        if note(line, plugin) { return }
        let name = plugin.runner.name
        guard let collection = line["publish"]?.text, let key = line["name"]?.text, let value = line["value"] else {
            throw PluginFailure("plugin \(name) publish: a line says nothing known: \(line.line.prefix(120))")
        }
        if let collections = plugin.manifest.publishes, !collections.contains(collection) {
            throw PluginFailure("plugin \(name) publish: its manifest says nothing of the collection \(collection)")
        }
        try PermissionCheck(plugin).check(publishing: value, key, in: collection)
        if let other = publishers.updateValue(name, forKey: "\(collection) \(key)") {
            problems.append("error: plugins \(other) and \(name) both publish \(key) in \(collection)")
        }
        published[collection, default: [:]][key] = value
    }

    /// Takes a line of a plan that was read before; false for another one.
    mutating func takeKnown(_ line: inout PluginAnswer.Line, of plugin: Planner.Member) -> Bool {
        if line.planned == nil, let found = byLine[LineBytes(line.text)], found.plugin == plugin.runner.name {
            line.planned = found
        }
        guard let planned = line.planned else { return false }
        add(planned)
        return true
    }

    /// What a line of a plan says.
    enum Read {
        case resource(PlannedResource)
        /// When the plugin would plan something else.
        case replan(Int)
        case diagnostic
    }

    /// - Parameter text: the line as the plugin wrote it.
    mutating func takePlanned(_ line: JSON, _ text: String, of plugin: Planner.Member) throws -> Read {
        if note(line, plugin) { return .diagnostic }
        let name = plugin.runner.name
        if let time = line["replan-at"] {
            guard let time = time.integer, time > 0 else {
                throw PluginFailure("plugin \(name) plan: replan-at is no time in seconds since 1970: \(line.line)")
            }
            replanAt = min(replanAt ?? time, time)
            return .replan(time)
        }
        let resource: Resource
        do {
            resource = try Resource(line, customKinds: customKinds)
        } catch {
            throw PluginFailure("plugin \(name) plan: \(error)")
        }
        guard plugin.manifest.resources.contains(resource.kind) else {
            throw PluginFailure("plugin \(name) plan: its manifest does not declare the resource kind \(resource.kind)")
        }
        if let objection = resource.value.objection(to: name) {
            throw PluginFailure("plugin \(name) plan: \(objection)")
        }
        if let service = resource.value as? ServiceResource,
            let access = service.unit.access.first(where: { !plugin.manifest.mayAccess($0, service.name) })
        {
            throw PluginFailure(
                "plugin \(name) plan: its manifest gives the service \(service.name) no access \"\(access.rawValue)\"; "
                    + "add the service to the manifest's access.\(access.rawValue)")
        }
        try PermissionCheck(plugin).check(resource)
        let allocated: Resource
        do {
            allocated = try resource.allocated(by: planner.allocation.share(of: name), of: name, line: text)
        } catch {
            throw PluginFailure("plugin \(name) plan: \(error) (in \(text.prefix(200)))")
        }
        var numbered = text
        if allocated != resource {
            var entries = allocated.json.object ?? [:]
            entries["at"] = line["at"]
            numbered = JSON.object(entries).line
        }
        let planned = PlannedResource(
            resource: allocated, plugin: name, line: numbered, written: text, path: line["at"]?.text)
        add(planned)
        return .resource(planned)
    }

    /// The engine's own part of each plan.
    private mutating func addSavedMarks() {
        guard planner.allocation.savedMarks != 0 else { return }
        let resource = Resource(NftablesResource.savedMarks(planner.allocation.savedMarks))
        add(PlannedResource(resource: resource, plugin: PacketPath.table, line: resource.json.line))
    }

    private mutating func add(_ second: PlannedResource) {
        guard let first = byKey.updateValue(second, forKey: second.key) else { return planned.append(second) }
        byKey[second.key] = first
        if type(of: second.resource.value).isShared, first.resource == second.resource { return }
        let both = [first, second].map { wish in
            guard wish.path != nil else { return wish.plugin }
            let (path, position) = planner.origin(of: wish, in: site)
            return "\(wish.plugin) at \(path) (\(position))"
        }
        problems.append(
            "error: plugins \(first.plugin) and \(second.plugin) both want \(second.key): \(both.joined(separator: ", "))"
        )
    }

    /// Plugins' chains that can accept where their plugins may not, one a plugin.
    private func acceptances(of plan: Plan) -> [PermissionViolation] {
        var chains: [String: Chain] = [:]
        var staged: [String: [(chain: Chain, stage: Stage)]] = [:]
        for planned in plan.ordered {
            guard case .chain(let chain, let use)? = planned.resource.as(NftablesResource.self) else { continue }
            chains[chain.name] = chain
            if let stage = use?.stage { staged[planned.plugin, default: []].append((chain, stage)) }
        }
        return planner.plugins.compactMap { plugin in
            staged[plugin.manifest.name].flatMap { PermissionCheck(plugin).acceptance(of: $0, in: chains) }
        }
    }

    /// The whole plan.
    ///
    /// - Throws: what is wrong with it, and what no line alone can show.
    mutating func finish() throws -> Plan {
        addSavedMarks()
        var plan = Plan(planned, byKey)
        (plan.warnings, plan.absent, plan.notes, plan.replanAt) = (warnings, absent, notes, replanAt)
        if let violation = TablePlan.guardViolation(plan.filter) { problems.append("error: \(violation)") }
        problems += acceptances(of: plan).map { "error: \($0)" }
        for planned in plan.ordered {
            for key in planned.resource.value.references where plan.resources[key]?.plugin != planned.plugin {
                problems.append(
                    "error: plugin \(planned.plugin): \(planned.key) references \(key), which that plugin does not plan"
                )
            }
        }
        try throwIfAny()
        return plan
    }
}
