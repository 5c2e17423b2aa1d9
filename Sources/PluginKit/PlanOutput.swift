/// What a plugin is given to plan with.
public struct PlanInput: Sendable {
    public var facts: Facts
    public var published: Published

    public init(facts: Facts, published: Published) {
        self.facts = facts
        self.published = published
    }
}

/// What a plugin plans, put together piece by piece.
public struct PlanOutput {
    public private(set) var resources: [Resource] = []
    public private(set) var diagnostics: [Diagnostic] = []

    public init() {}

    /// Adds a resource; one that is there already is meant once.
    public mutating func add(_ resource: Resource) {
        if !resources.contains(resource) { resources.append(resource) }
    }

    public mutating func say(_ diagnostic: Diagnostic) { diagnostics.append(diagnostic) }

    public mutating func say(_ severity: Diagnostic.Severity, path: String, _ message: String, hint: String? = nil) {
        diagnostics.append(Diagnostic(severity, path: path, message, hint: hint))
    }

    /// The zone of that name; one that nobody has defined is an error at `path`.
    public mutating func zone(_ name: String, at path: String, in published: Published) -> Zone? {
        if let zone = published.zones[name] { return zone }
        let known = published.zones.keys.sorted()
        let meant = didYouMean(name, among: known).map { "did you mean \($0)? " } ?? ""
        say(
            .error, path: path, "there is no zone \"\(name)\"",
            hint: meant + "zones are \(known.isEmpty ? "nowhere defined" : known.joined(separator: ", "))")
        return nil
    }
}
