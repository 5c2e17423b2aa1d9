import Documents

/// A value: constant, computed from the packet, or a collection of values.
public indirect enum Expression: Sendable, Hashable {
    /// An address, an interface's name (`ppp*` for all that begin so), a symbol such as `established`.
    case text(String)
    case number(Int)
    case prefix(String, Int)
    case range(Expression, Expression)
    /// Bits together: `established,related`.
    case list([Expression])
    /// An anonymous set.
    case set([Expression])
    case concatenation([Expression])
    /// A named set or map.
    case named(String)
    case selector(Selector)
    case and(Expression, Expression)
    case or(Expression, Expression)
    /// What a named map holds for a key.
    case map(Expression, String)
    /// The same of a map without a name.
    case valueMap(Expression, [ValueMapEntry])
    case jhash(JHash)
    case numgen(NumberGenerator)
    /// A zone of connection tracking, by its name in the plugin's manifest and its place there. It is a
    /// plan's, as ``Selector/markField(_:_:)`` is.
    case zone(String, Int)

    public static func meta(_ key: Selector.Meta) -> Expression { .selector(.meta(key)) }
    public static func ct(_ key: Selector.ConnectionKey) -> Expression { .selector(.ct(key)) }
    public static func payload(_ header: Selector.Header, _ field: String) -> Expression {
        .selector(.payload(header, field))
    }

    /// Reads libnftables' JSON.
    public init(_ json: JSON) throws(UnsupportedRuleset) {
        switch json {
        case .text(let text):
            self = text.hasPrefix("@") ? .named(String(text.dropFirst())) : .text(text)
            return
        case .integer(let number):
            self = .number(number)
            return
        case .boolean(let value):
            self = .number(value ? 1 : 0)
            return
        case .list(let items):
            self = .list(try Self.all(items))
            return
        case .null: throw UnsupportedRuleset(json, "an empty expression")
        case .object: break
        }
        if let selector = try Selector(json) {
            self = .selector(selector)
            return
        }
        guard let (name, body) = json.single else { throw UnsupportedRuleset(json, "this expression") }
        switch name {
        case "prefix":
            guard let address = body["addr"]?.text, let length = body["len"]?.integer else {
                throw UnsupportedRuleset(json, "this prefix")
            }
            self = .prefix(address, length)
        case "range":
            let ends = try Self.pair(body, of: json)
            self = .range(ends.0, ends.1)
        case "map": self = try Self.map(body, of: json)
        case "jhash": self = .jhash(try JHash(body, of: json))
        case "zone":
            guard let (name, offset) = body.single, let number = offset.integer, number >= 0 else {
                throw UnsupportedRuleset(json, "this zone", allowed: ["an object of a name and an offset"])
            }
            self = .zone(name, number)
        case "numgen": self = .numgen(try NumberGenerator(body, of: json))
        case "set": self = .set(try Self.all(body.list ?? [body]))
        case "concat":
            guard let items = body.list, items.count > 1 else { throw UnsupportedRuleset(json, "this concatenation") }
            self = .concatenation(try Self.all(items))
        case "&":
            let operands = try Self.pair(body, of: json)
            self = .and(operands.0, operands.1)
        case "|":
            let operands = try Self.pair(body, of: json)
            self = .or(operands.0, operands.1)
        default: throw UnsupportedRuleset(json, "the expression \"\(name)\"")
        }
    }

    static func all(_ items: [JSON]) throws(UnsupportedRuleset) -> [Expression] {
        var result: [Expression] = []
        for item in items { result.append(try Expression(item)) }
        return result
    }

    private static func pair(_ body: JSON, of json: JSON) throws(UnsupportedRuleset) -> (Expression, Expression) {
        guard let items = body.list, items.count == 2 else { throw UnsupportedRuleset(json, "other than two operands") }
        return (try Expression(items[0]), try Expression(items[1]))
    }

    public var json: JSON {
        switch self {
        case .text(let text): .text(text)
        case .number(let number): .integer(number)
        case .prefix(let address, let length): ["prefix": ["addr": .text(address), "len": .integer(length)]]
        case .range(let first, let last): ["range": [first.json, last.json]]
        case .list(let items): .list(items.map(\.json))
        case .set(let items): ["set": .list(items.map(\.json))]
        case .concatenation(let items): ["concat": .list(items.map(\.json))]
        case .named(let name): .text("@" + name)
        case .selector(let selector): selector.json
        case .and(let first, let second): ["&": [first.json, second.json]]
        case .or(let first, let second): ["|": [first.json, second.json]]
        case .map(let key, let name): ["map": ["key": key.json, "data": .text("@" + name)]]
        case .valueMap(let key, let entries):
            ["map": ["key": key.json, "data": ["set": .list(entries.map(\.json))]]]
        case .jhash(let hash): hash.json
        case .numgen(let generator): generator.json
        case .zone(let name, let offset): ["zone": .object([name: .integer(offset)])]
        }
    }
}

extension Expression {
    /// Appends the text of ``json``. What elements of sets consist of takes no detour: they are
    /// many.
    public func writeJSON(into bytes: inout [UInt8]) {
        switch self {
        case .text(let text): JSON.writeQuoted(text, into: &bytes)
        case .number(let number): JSON.write(number, into: &bytes)
        case .concatenation(let items):
            bytes.append(contentsOf: #"{"concat":["#.utf8)
            for i in items.indices {
                if i > 0 { bytes.append(UInt8(ascii: ",")) }
                items[i].writeJSON(into: &bytes)
            }
            bytes.append(contentsOf: "]}".utf8)
        case .prefix(let address, let length):
            bytes.append(contentsOf: #"{"prefix":{"addr":"#.utf8)
            JSON.writeQuoted(address, into: &bytes)
            bytes.append(contentsOf: #","len":"#.utf8)
            JSON.write(length, into: &bytes)
            bytes.append(contentsOf: "}}".utf8)
        default: json.write(into: &bytes)
        }
    }
}
