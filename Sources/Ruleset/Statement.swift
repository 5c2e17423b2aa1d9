import Documents

/// A step of a rule.
///
/// The cases are what nearly all of a large policy's rules consist of; they are stored in place and
/// met without a look-up. All other kinds are values of ``StatementType``, each in a file of
/// `Statements`. `docs/decisions.md` has the measurements.
public enum Statement: Sendable, Hashable {
    case match(Expression, Comparison, Expression)
    case verdict(Verdict)
    /// Looks the key up and goes where the map says; nothing found, the packet goes on.
    case verdictMap(Expression, [VerdictMapEntry])
    /// The same with a named map.
    case namedVerdictMap(Expression, String)
    /// Counts with a named counter. An anonymous one would lose its count at every change of its chain.
    case counter(String)
    case other(AnyStatement)

    public enum Family: String, Sendable, CaseIterable { case ip, ip6 }

    /// Reads libnftables' JSON.
    public init(_ json: JSON) throws(UnsupportedRuleset) {
        if let verdict = Verdict(json) {
            self = .verdict(verdict)
            return
        }
        guard let (name, body) = json.single else { throw UnsupportedRuleset(json, "this statement") }
        switch name {
        case "match": self = try Self.match(body, of: json)
        case "vmap": self = try Self.verdictMap(body, of: json)
        case "counter" where body.text != nil: self = .counter(body.text ?? "")
        default:
            guard let type = StatementTypes.byName[name] else {
                throw UnsupportedRuleset(json, "the statement \"\(name)\"", allowed: Self.names)
            }
            self = try Self.read(type, name, body, of: json)
        }
    }

    private static func read<Kind: StatementType>(
        _ type: Kind.Type, _ name: String, _ body: JSON, of json: JSON
    ) throws(UnsupportedRuleset) -> Statement {
        Statement(try Kind(name, body, of: json))
    }

    private static var names: [String] {
        (["accept", "continue", "drop", "goto", "jump", "match", "return", "vmap"] + StatementTypes.byName.keys)
            .sorted()
    }

    public var json: JSON {
        switch self {
        case .match(let left, let comparison, let right): Self.json(left, comparison, right)
        case .verdict(let verdict): verdict.json
        case .verdictMap(let key, let entries):
            ["vmap": ["key": key.json, "data": ["set": .list(entries.map(\.json))]]]
        case .namedVerdictMap(let key, let name): ["vmap": ["key": key.json, "data": .text("@" + name)]]
        case .counter(let name): ["counter": .text(name)]
        case .other(let other): other.value.json
        }
    }
}

extension JSON {
    /// A reference to a named set, map or flowtable, without its `@`; nil for anything else.
    var reference: String? {
        guard let text, text.hasPrefix("@"), text.utf8.count > 1 else { return nil }
        return String(text.dropFirst())
    }

    /// One flag, or a list of them, as libnftables has it.
    ///
    /// - Throws: for a flag that `Flag` does not have.
    func flags<Flag: RawRepresentable & CaseIterable & Hashable>(
        _ key: String, _ what: String
    ) throws(UnsupportedRuleset) -> Set<Flag> where Flag.RawValue == String {
        guard let found = self[key] else { return [] }
        var flags: Set<Flag> = []
        for item in found.list ?? [found] {
            guard let flag = item.text.flatMap({ Flag(rawValue: $0) }) else {
                throw UnsupportedRuleset(
                    self, "\(item.line) as a flag of \(what)", allowed: Flag.allCases.map { "\($0.rawValue)" })
            }
            flags.insert(flag)
        }
        return flags
    }

    /// Flags as nft itself writes them: one is no list.
    static func flags<Flag: RawRepresentable & CaseIterable & Hashable>(
        _ flags: Set<Flag>
    ) -> JSON? where Flag.RawValue == String {
        let names = Flag.allCases.filter(flags.contains).map(\.rawValue)
        return names.isEmpty ? nil : names.count == 1 ? .text(names[0]) : .texts(names)
    }
}
