import Documents

/// Where a base chain is called from the kernel.
public struct Hook: Sendable, Hashable {
    public enum Point: String, Sendable, CaseIterable {
        case prerouting, input, forward, output, postrouting
        /// Where a device's packets come in, before all others.
        case ingress

        /// NF_INET_*; in `netdev` NF_NETDEV_INGRESS.
        public func number(in family: TableFamily) -> UInt32 {
            family == .netdev ? 0 : UInt32(Self.allCases.firstIndex(of: self) ?? 0)
        }
    }

    public enum Kind: String, Sendable, CaseIterable { case filter, nat, route }

    public var kind: Kind
    public var point: Point
    public var priority: Int
    public var policy: Policy
    /// Of ingress.
    public var device: String?

    public enum Policy: String, Sendable, CaseIterable { case accept, drop }

    public init(_ kind: Kind, _ point: Point, priority: Int, policy: Policy = .accept, device: String? = nil) {
        self.kind = kind
        self.point = point
        self.priority = priority
        self.policy = policy
        self.device = device
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

    /// It stands for many rules of a configuration: its origin names none of them.
    public var isCompiled: Bool { comment.map(Self.isCompiled) ?? false }
    public static func isCompiled(_ comment: String) -> Bool { comment.hasSuffix(": compiled") }

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

/// A set or a map.
public struct NamedSet: Sendable, Hashable {
    /// What a key leads to.
    public enum Content: Sendable, Hashable {
        /// To nothing: a set.
        case members
        /// A verdict map.
        case verdicts
        /// A map to names of counters.
        case counters
        /// A map to values, of one type or of several one after the other.
        case values([DataType])
        /// A map to ranges of such values: for translations.
        case ranges([DataType])
    }

    public enum Flag: String, Sendable, CaseIterable { case constant, interval, timeout, dynamic }

    public var name: String
    /// One type, or several of a concatenation.
    public var key: [DataType]
    public var content: Content
    public var flags: Set<Flag>
    /// Seconds that an element stays; nil for ever.
    public var timeout: Int?
    /// At most so many elements.
    public var size: Int?
    public var elements: [SetElement]

    public init(
        _ name: String, key: [DataType], content: Content = .members, flags: Set<Flag> = [], timeout: Int? = nil,
        size: Int? = nil, elements: [SetElement] = []
    ) {
        self.name = name
        self.key = key
        self.content = content
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
    public init(_ json: JSON) throws(UnsupportedRuleset) {
        guard let name = json["name"]?.text else { throw UnsupportedRuleset(json, "a set without a name") }
        let key = try Self.types(json["type"] ?? .null, of: json)
        let content = try Content(map: json["map"], of: json)
        var flags: Set<Flag> = []
        for flag in json["flags"]?.list ?? [] {
            guard let known = flag.text.flatMap(Flag.init) else {
                throw UnsupportedRuleset(json, "this flag of a set", allowed: Flag.allCases.map(\.rawValue))
            }
            flags.insert(known)
        }
        var elements: [SetElement] = []
        for item in json["elem"]?.list ?? [] { elements.append(try SetElement(item, content)) }
        self.init(
            name, key: key, content: content, flags: flags, timeout: try JSON.seconds(json["timeout"]),
            size: json["size"]?.integer, elements: elements)
    }

    fileprivate static func types(_ json: JSON, of set: JSON) throws(UnsupportedRuleset) -> [DataType] {
        var types: [DataType] = []
        for type in json.list ?? [json] {
            guard let known = type.text.flatMap({ DataType.named[$0] }) else {
                throw UnsupportedRuleset(set, "this type", allowed: DataType.named.keys.sorted())
            }
            types.append(known)
        }
        return types
    }

    fileprivate static func json(_ types: [DataType]) -> JSON {
        types.count == 1 ? .text(types[0].name) : .texts(types.map(\.name))
    }

    public var json: JSON {
        .object([
            "name": .text(name), "type": Self.json(key), "map": content.map,
            "flags": flags.isEmpty ? nil : .texts(Flag.allCases.filter(flags.contains).map(\.rawValue)),
            "timeout": timeout.map { .integer($0) }, "size": size.map { .integer($0) },
            "elem": elements.isEmpty ? nil : .list(elements.map(\.json)),
        ])
    }
}

extension NamedSet.Content {
    /// Reads what a map is to; nil is no map.
    init(map: JSON?, of set: JSON) throws(UnsupportedRuleset) {
        switch map {
        case nil: self = .members
        case .text("verdict"): self = .verdicts
        case .text("counter"): self = .counters
        case let types?:
            // As nft has it beside "type" only: the word that says that ranges are meant.
            let names = types.list ?? [types]
            if names.first == "interval" {
                self = .ranges(try NamedSet.types(.list(Array(names.dropFirst())), of: set))
            } else {
                self = .values(try NamedSet.types(types, of: set))
            }
        }
    }

    var map: JSON? {
        switch self {
        case .members: nil
        case .verdicts: "verdict"
        case .counters: "counter"
        case .values(let types): NamedSet.json(types)
        case .ranges(let types): .texts(["interval"] + types.map(\.name))
        }
    }
}

/// A member of a set, or an entry of a map.
public struct SetElement: Sendable, Hashable {
    public enum Value: Sendable, Hashable {
        case verdict(Verdict)
        /// Its name.
        case counter(String)
        case data(Expression)
    }

    public var key: Expression
    public var value: Value?
    /// Seconds; nil for the set's own.
    public var timeout: Int?

    public init(_ key: Expression, _ value: Value? = nil, timeout: Int? = nil) {
        self.key = key
        self.value = value
        self.timeout = timeout
    }

    public init(_ key: Expression, verdict: Verdict) { self.init(key, .verdict(verdict)) }

    public var verdict: Verdict? { if case .verdict(let verdict)? = value { verdict } else { nil } }

    /// Reads libnftables' JSON.
    public init(_ json: JSON, _ content: NamedSet.Content) throws(UnsupportedRuleset) {
        let key = content == .members ? json : json.list?.first ?? .null
        let timeout = try JSON.seconds(key["elem"]?["timeout"])
        let expression = try Expression(key["elem"]?["val"] ?? key)
        if content == .members {
            self.init(expression, timeout: timeout)
            return
        }
        guard let pair = json.list, pair.count == 2 else { throw UnsupportedRuleset(json, "this entry of a map") }
        switch content {
        case .verdicts:
            guard let verdict = Verdict(pair[1]) else { throw UnsupportedRuleset(json, "this entry of a verdict map") }
            self.init(expression, .verdict(verdict), timeout: timeout)
        case .counters:
            guard let name = pair[1].text else { throw UnsupportedRuleset(json, "this counter in a map") }
            self.init(expression, .counter(name), timeout: timeout)
        default: self.init(expression, .data(try Expression(pair[1])), timeout: timeout)
        }
    }

    public var json: JSON {
        let key: JSON = timeout.map { ["elem": ["val": self.key.json, "timeout": .integer($0)]] } ?? self.key.json
        switch value {
        case nil: return key
        case .verdict(let verdict): return [key, verdict.json]
        case .counter(let name): return [key, .text(name)]
        case .data(let data): return [key, data.json]
        }
    }

    /// Appends the text of ``json``.
    func writeJSON(into bytes: inout [UInt8]) {
        guard timeout == nil else { return json.write(into: &bytes) }
        guard let value else { return key.writeJSON(into: &bytes) }
        bytes.append(UInt8(ascii: "["))
        key.writeJSON(into: &bytes)
        bytes.append(UInt8(ascii: ","))
        switch value {
        case .verdict(.accept): bytes.append(contentsOf: #"{"accept":null}"#.utf8)
        case .verdict(.drop): bytes.append(contentsOf: #"{"drop":null}"#.utf8)
        case .verdict(let verdict): verdict.json.write(into: &bytes)
        case .counter(let name): JSON.writeQuoted(name, into: &bytes)
        case .data(let data): data.writeJSON(into: &bytes)
        }
        bytes.append(UInt8(ascii: "]"))
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

    /// Appends the text of ``json``.
    public func writeJSON(into bytes: inout [UInt8]) {
        bytes.append(UInt8(ascii: "{"))
        if let comment {
            bytes.append(contentsOf: #""comment":"#.utf8)
            JSON.writeQuoted(comment, into: &bytes)
            bytes.append(UInt8(ascii: ","))
        }
        bytes.append(contentsOf: #""name":"#.utf8)
        JSON.writeQuoted(name, into: &bytes)
        bytes.append(UInt8(ascii: "}"))
    }
}

/// A helper of connection tracking: it reads what a protocol says of connections to come, such as FTP's for data.
public struct NamedHelper: Sendable, Hashable {
    public var name: String
    /// The kernel's own name of it, such as `ftp`.
    public var kind: String
    /// `tcp` or `udp`.
    public var transport: String

    public init(_ name: String, _ kind: String, _ transport: String) {
        (self.name, self.kind, self.transport) = (name, kind, transport)
    }

    /// Reads libnftables' JSON, without family and table.
    public init(_ json: JSON) throws(UnsupportedRuleset) {
        guard let name = json["name"]?.text, let kind = json["type"]?.text, let transport = json["protocol"]?.text,
            ["tcp", "udp"].contains(transport)
        else { throw UnsupportedRuleset(json, "a helper without name, type and protocol") }
        self.init(name, kind, transport)
    }

    public var json: JSON {
        ["name": .text(name), "type": .text(kind), "protocol": .text(transport), "l3proto": "inet"]
    }
}

/// Connections whose packets go from link to link without asking for any rule.
public struct Flowtable: Sendable, Hashable {
    public var name: String
    public var devices: [String]
    /// By the network cards themselves, as far as they can.
    public var isHardware: Bool

    public init(_ name: String, devices: [String], isHardware: Bool = false) {
        (self.name, self.devices, self.isHardware) = (name, devices, isHardware)
    }

    /// Reads libnftables' JSON, without family and table.
    public init(_ json: JSON) throws(UnsupportedRuleset) {
        guard let name = json["name"]?.text, json["hook"]?.text == "ingress", let devices = json["dev"]?.list else {
            throw UnsupportedRuleset(json, "a flowtable without name, hook ingress and dev")
        }
        self.init(
            name, devices: devices.compactMap(\.text),
            isHardware: json["flags"]?.text == "offload" || json["flags"]?.list?.first?.text == "offload")
    }

    public var json: JSON {
        .object([
            "name": .text(name), "hook": "ingress", "prio": 0, "dev": .texts(devices),
            "flags": isHardware ? "offload" : nil,
        ])
    }
}
