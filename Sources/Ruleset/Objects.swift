import Documents

/// Where a base chain is called from the kernel.
public struct Hook: Sendable, Hashable {
    public enum Point: String, Sendable, CaseIterable {
        case prerouting, input, forward, output, postrouting

        /// NF_INET_*.
        public var number: UInt32 { UInt32(Self.allCases.firstIndex(of: self) ?? 0) }
    }

    public enum Kind: String, Sendable, CaseIterable { case filter, nat, route }

    public var kind: Kind
    public var point: Point
    public var priority: Int
    public var policy: Policy

    public enum Policy: String, Sendable, CaseIterable { case accept, drop }

    public init(_ kind: Kind, _ point: Point, priority: Int, policy: Policy = .accept) {
        self.kind = kind
        self.point = point
        self.priority = priority
        self.policy = policy
    }
}

public struct Rule: Sendable, Hashable {
    public var statements: [Statement]
    /// Who wants it: plugin and configuration path. At most 127 bytes; a longer one is cut.
    public var comment: String?

    public init(_ statements: [Statement], comment: String? = nil) {
        self.statements = statements
        self.comment = comment
    }

    /// Reads libnftables' JSON, without family, table and chain.
    public init(_ json: JSON) throws(UnsupportedRuleset) {
        guard let items = json["expr"]?.list else { throw UnsupportedRuleset(json, "a rule without expr") }
        var statements: [Statement] = []
        for item in items { statements.append(try Statement(item)) }
        self.init(statements, comment: json["comment"]?.text)
    }

    public var json: JSON {
        .object(["expr": .list(statements.map(\.json)), "comment": comment.map { .text($0) }])
    }
}

/// A chain with all its rules.
public struct Chain: Sendable, Hashable {
    public var name: String
    /// Of a base chain.
    public var hook: Hook?
    public var rules: [Rule]

    public init(_ name: String, hook: Hook? = nil, rules: [Rule] = []) {
        self.name = name
        self.hook = hook
        self.rules = rules
    }
}

/// A set or, with data, a verdict map.
public struct NamedSet: Sendable, Hashable {
    public enum Flag: String, Sendable, CaseIterable { case constant, interval, timeout, dynamic }

    public var name: String
    /// One type, or several of a concatenation.
    public var key: [DataType]
    public var isVerdictMap: Bool
    public var flags: Set<Flag>
    /// Seconds that an element stays; nil for ever.
    public var timeout: Int?
    /// At most so many elements.
    public var size: Int?
    public var elements: [SetElement]

    public init(
        _ name: String, key: [DataType], isVerdictMap: Bool = false, flags: Set<Flag> = [], timeout: Int? = nil,
        size: Int? = nil, elements: [SetElement] = []
    ) {
        self.name = name
        self.key = key
        self.isVerdictMap = isVerdictMap
        self.flags = flags
        self.timeout = timeout
        self.size = size
        self.elements = elements
    }

    /// What it is, without what is in it: a change here needs a new set.
    public var declaration: NamedSet {
        var copy = self
        copy.elements = []
        return copy
    }

    /// Reads libnftables' JSON, without family and table.
    public init(_ json: JSON, isVerdictMap: Bool) throws(UnsupportedRuleset) {
        guard let name = json["name"]?.text else { throw UnsupportedRuleset(json, "a set without a name") }
        let types = json["type"]?.list ?? [json["type"] ?? .null]
        var key: [DataType] = []
        for type in types {
            guard let known = type.text.flatMap({ DataType.named[$0] }) else {
                throw UnsupportedRuleset(json, "this key type", allowed: DataType.named.keys.sorted())
            }
            key.append(known)
        }
        var flags: Set<Flag> = []
        for flag in json["flags"]?.list ?? [] {
            guard let known = flag.text.flatMap(Flag.init) else {
                throw UnsupportedRuleset(json, "this flag of a set", allowed: Flag.allCases.map(\.rawValue))
            }
            flags.insert(known)
        }
        var elements: [SetElement] = []
        for item in json["elem"]?.list ?? [] { elements.append(try SetElement(item, isVerdictMap: isVerdictMap)) }
        if isVerdictMap, json["map"]?.text != "verdict" {
            throw UnsupportedRuleset(json, "a map to anything but verdicts")
        }
        self.init(
            name, key: key, isVerdictMap: isVerdictMap, flags: flags, timeout: try JSON.seconds(json["timeout"]),
            size: json["size"]?.integer, elements: elements)
    }

    public var json: JSON {
        .object([
            "name": .text(name),
            "type": key.count == 1 ? .text(key[0].name) : .texts(key.map(\.name)),
            "map": isVerdictMap ? "verdict" : nil,
            "flags": flags.isEmpty ? nil : .texts(Flag.allCases.filter(flags.contains).map(\.rawValue)),
            "timeout": timeout.map { .integer($0) }, "size": size.map { .integer($0) },
            "elem": elements.isEmpty ? nil : .list(elements.map(\.json)),
        ])
    }
}

/// A member of a set, or an entry of a verdict map.
public struct SetElement: Sendable, Hashable {
    public var key: Expression
    public var verdict: Verdict?
    /// Seconds; nil for the set's own.
    public var timeout: Int?

    public init(_ key: Expression, verdict: Verdict? = nil, timeout: Int? = nil) {
        self.key = key
        self.verdict = verdict
        self.timeout = timeout
    }

    init(_ json: JSON, isVerdictMap: Bool) throws(UnsupportedRuleset) {
        if isVerdictMap {
            let entry = try VerdictMapEntry(json)
            self.init(entry.key, verdict: entry.verdict)
        } else if let element = json["elem"], let value = element["val"] {
            self.init(try Expression(value), timeout: try JSON.seconds(element["timeout"]))
        } else {
            self.init(try Expression(json))
        }
    }

    public var json: JSON {
        if let verdict { return [key.json, verdict.json] }
        return timeout.map { ["elem": ["val": key.json, "timeout": .integer($0)]] } ?? key.json
    }
}

/// A counter that outlives changes of the rules that count with it.
public struct NamedCounter: Sendable, Hashable {
    public var name: String
    public var comment: String?

    public init(_ name: String, comment: String? = nil) {
        self.name = name
        self.comment = comment
    }

    public var json: JSON { .object(["name": .text(name), "comment": comment.map { .text($0) }]) }
}
