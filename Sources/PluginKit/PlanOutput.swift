/// What a plugin is given to plan with.
public struct PlanInput: Sendable {
    public var facts: Facts
    public var published: Published
    /// Seconds since 1970, the same for all plugins of one plan.
    public var now: Int
    /// Whether somebody wants to know what becomes of what: notes are asked for.
    public var explains: Bool
    /// The numbers of the plugin's names, for files and commands; a plan has the names.
    public var allocated: Allocation.Share

    public init(
        facts: Facts, published: Published, now: Int = 0, explains: Bool = false,
        allocated: Allocation.Share = Allocation.Share()
    ) {
        self.allocated = allocated
        self.facts = facts
        self.published = published
        self.now = now
        self.explains = explains
    }
}

/// What a plugin plans, put together piece by piece.
public struct PlanOutput {
    /// The lines that resources are, as they came.
    private var added: [String] = []
    public private(set) var diagnostics: [Diagnostic] = []
    /// When the plugin wants to plan again, in seconds since 1970.
    public private(set) var replanAt: Int?

    public init() {}

    /// Adds a resource; one that is there already is meant once.
    ///
    /// - Parameter path: of the node in the plugin's configuration that wants it, for errors.
    public mutating func add(_ resource: some ResourceType, at path: String? = nil) {
        add(line: resource, path)
    }

    private mutating func add(line resource: some ResourceType, _ path: String?) {
        added.append(Resource(resource).line(at: path))
    }

    /// The lines that resources are, in their order; each once.
    var lines: [String] {
        var lines: [String] = []
        lines.reserveCapacity(added.count)
        for line in added.sorted() where line != lines.last { lines.append(line) }
        return lines
    }

    /// Adds an object of the nftables table.
    public mutating func add(_ object: NftablesResource, at path: String? = nil) {
        add(line: object, path)
    }

    /// Rules up to which a chain is one line of the plan, and the most that a part of a longer one has.
    private static let (chainLength, partLength) = (256, 256)
    /// One in so many keys ends a part.
    private static let partDivisor: UInt64 = 48

    /// Adds a chain of many rules, in their order. A long one is cut into chains of its own that it calls, where the keys say
    /// so: a rule that comes, goes or changes touches its part and no other.
    ///
    /// - Parameter groups: rules that belong together, by a key that is theirs alone.
    public mutating func add(
        chain name: String, groups: [(key: String, rules: [Rule])], stage: NftablesResource.StageUse?
    ) {
        guard groups.reduce(0, { $0 + $1.rules.count }) > Self.chainLength else {
            return add(.chain(Chain(name, rules: groups.flatMap(\.rules)), stage: stage))
        }
        var calls: [Rule] = []
        var part: (name: String, rules: [Rule])?
        func end() {
            guard let (name, rules) = part else { return }
            add(.chain(Chain(name, rules: rules), stage: nil))
            calls.append(Rule([.verdict(.jump(name))], comment: "a part of many"))
            part = nil
        }
        for (key, rules) in groups {
            if part == nil { part = ("\(name).\(key)", []) }
            part?.rules += rules
            if key.fnv1a >> 16 % Self.partDivisor == 0 || part?.rules.count ?? 0 >= Self.partLength { end() }
        }
        end()
        add(.chain(Chain(name, rules: calls), stage: stage))
    }

    /// Elements up to which a set is one line of the plan, and about how many a part of a larger one has.
    private static let (setLength, partElements) = (512, 128)

    /// Adds a set or a map. A large one's elements are lines of their own, each element in the part that its key says.
    public mutating func add(set: NamedSet) {
        guard set.elements.count > Self.setLength else { return add(.set(set)) }
        add(.set(set.declaration))
        var count = 1
        while count * Self.partElements < set.elements.count { count *= 2 }
        // Each key is written once: what an element begins with also says its part and its place
        // there.
        var parts: [[Range<Int>]] = Array(repeating: [], count: count)
        var places: [[Int]] = Array(repeating: [], count: count)
        var keys: [UInt8] = []
        for i in set.elements.indices {
            let start = keys.count
            set.elements[i].key.writeJSON(into: &keys)
            let hash = keys.withUnsafeBufferPointer { FNV.hash(UnsafeBufferPointer(rebasing: $0[start...])) }
            let part = Int(hash >> 16) & (count - 1)
            parts[part].append(start..<keys.count)
            places[part].append(i)
        }
        for (i, part) in parts.enumerated() where !part.isEmpty {
            let order = keys.withUnsafeBufferPointer { keys in
                part.indices.sorted { one, other in
                    keys[part[one]].lexicographicallyPrecedes(keys[part[other]])
                }
            }
            let elements = order.map { set.elements[places[i][$0]] }
            add(.elements(SetPart(of: set, part: "\(i) of \(count)", elements)))
        }
    }

    public mutating func say(_ diagnostic: Diagnostic) { diagnostics.append(diagnostic) }

    /// - Parameter other: the path of another node that it is about as well.
    public mutating func say(
        _ severity: Diagnostic.Severity, path: String, _ message: String, hint: String? = nil, other: String? = nil
    ) {
        diagnostics.append(Diagnostic(severity, path: path, message, hint: hint, other: other))
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
