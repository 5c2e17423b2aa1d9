/// What a plugin is given to plan with.
public struct PlanInput: Sendable {
    public var facts: Facts
    public var published: Published
    /// Seconds since 1970, the same for all plugins of one plan.
    public var now: Int

    public init(facts: Facts, published: Published, now: Int = 0) {
        self.facts = facts
        self.published = published
        self.now = now
    }
}

/// What a plugin plans, put together piece by piece.
public struct PlanOutput {
    /// The lines that resources are, as they came.
    private(set) var lines: [String] = []
    private var seen: Set<String> = []
    public private(set) var diagnostics: [Diagnostic] = []
    /// When the plugin wants to plan again, in seconds since 1970.
    public private(set) var replanAt: Int?

    public init() {}

    /// Adds a resource; one that is there already is meant once.
    ///
    /// - Parameter path: of the node in the plugin's configuration that wants it, for errors.
    public mutating func add(_ resource: Resource, at path: String? = nil) {
        var entries = resource.json.object ?? [:]
        if let path { entries["at"] = .text(path) }
        let line = JSON.object(entries).line
        if seen.insert(line).inserted { lines.append(line) }
    }

    public mutating func say(_ diagnostic: Diagnostic) { diagnostics.append(diagnostic) }

    public mutating func say(_ severity: Diagnostic.Severity, path: String, _ message: String, hint: String? = nil) {
        diagnostics.append(Diagnostic(severity, path: path, message, hint: hint))
    }

    /// Has the box plan again at a time, in seconds since 1970, as when something ends then.
    public mutating func planAgain(at time: Int) { replanAt = min(replanAt ?? time, time) }

    /// The zone of that name; one that nobody has published is an error at `path`.
    public mutating func zone(_ name: String, at path: String, in published: Published) -> Zone? {
        find(name, "zone", at: path, in: published.zones)
    }

    /// The interface of that name; one that nobody has published is an error at `path`.
    public mutating func interface(_ name: String, at path: String, in published: Published) -> Interface? {
        find(name, "interface", at: path, in: published.interfaces)
    }

    private mutating func find<Value>(
        _ name: String, _ what: String, at path: String, in published: [String: Value]
    ) -> Value? {
        if let value = published[name] { return value }
        let known = published.keys.sorted()
        let meant = didYouMean(name, among: known).map { "did you mean \($0)? " } ?? ""
        say(
            .error, path: path, "there is no \(what) \"\(name)\"",
            hint: meant + "\(what)s are \(known.isEmpty ? "nowhere defined" : known.joined(separator: ", "))")
        return nil
    }
}
