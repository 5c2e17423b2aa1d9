/// The problems met while one document is read; reading goes on after each, so that a person sees them all at once.
public final class ProblemList {
    public private(set) var problems: [Problem] = []

    public init() {}

    /// Notes one more problem.
    public func add(_ node: Node, _ path: String, _ message: String, hint: String? = nil) {
        let key = path.split(separator: ".").last.map(String.init) ?? path
        // Who made a mistake in a secret doesn't want it told to others.
        let message = Node.secretKeys.contains(key) ? message.replacing([node.summary], with: "a secret") : message
        problems.append(Problem(position: node.position, path: path, message: message, hint: hint))
    }

    /// Notes one more problem.
    public func add(_ problem: Problem) { problems.append(problem) }

    /// Throws all that was noted, if anything was.
    public func throwIfAny() throws(InvalidDocument) {
        if !problems.isEmpty { throw InvalidDocument(problems) }
    }
}

/// What a value must look like, and how it is read: the whole vocabulary of a strict decoder.
///
/// Reading never throws: a value of the wrong shape is noted in the ``ProblemList`` and reads as nil.
public struct Shape<Value> {
    /// What is allowed, as an error says it: "a whole number from 1 to 10".
    public let allowed: String
    @usableFromInline
    let parse: (Node, String, ProblemList) -> Value?

    // What reads each item of long lists is specialized where it is used.
    @inlinable
    public init(_ allowed: String, parse: @escaping (Node, String, ProblemList) -> Value?) {
        self.allowed = allowed
        self.parse = parse
    }

    /// Reads `node`, which stands at `path`.
    @inlinable
    public func read(_ node: Node, path: String, into problems: ProblemList) -> Value? { parse(node, path, problems) }

    /// Reads a scalar by `convert`, which returns nil for a text that is not allowed.
    @inlinable
    public static func scalar(_ allowed: String, _ convert: @escaping (Node.Scalar) -> Value?) -> Shape {
        Shape(allowed) { node, path, problems in
            if case .scalar(let scalar) = node.value, !node.isNull, let value = convert(scalar) { return value }
            problems.add(node, path, "found \(node.summary)", hint: "allowed is \(allowed)")
            return nil
        }
    }

    /// The same shape with a further condition.
    @inlinable
    public func map<Other>(_ allowed: String? = nil, _ convert: @escaping (Value) -> Other?) -> Shape<Other> {
        let allowed = allowed ?? self.allowed
        return Shape<Other>(allowed) { node, path, problems in
            guard let value = parse(node, path, problems) else { return nil }
            if let other = convert(value) { return other }
            problems.add(node, path, "found \(node.summary)", hint: "allowed is \(allowed)")
            return nil
        }
    }
}

extension Shape where Value == String {
    /// Any text, quoted or not; a number or `no` is the text as written.
    public static var text: Shape { .scalar("a text") { $0.text } }

    /// Text that satisfies `predicate`.
    public static func text(_ allowed: String, where predicate: @escaping (String) -> Bool) -> Shape {
        .scalar(allowed) { predicate($0.text) ? $0.text : nil }
    }

    /// One of `words`; a near miss is answered with the word that was likely meant.
    public static func oneOf(_ words: [String]) -> Shape {
        let allowed = "one of " + words.joined(separator: ", ")
        return Shape(allowed) { node, path, problems in
            guard case .scalar(let scalar) = node.value, !node.isNull else {
                problems.add(node, path, "found \(node.summary)", hint: "allowed is \(allowed)")
                return nil
            }
            if words.contains(scalar.text) { return scalar.text }
            let meant = didYouMean(scalar.text, among: words).map { "did you mean \($0)? " } ?? ""
            problems.add(node, path, "found \(node.summary)", hint: meant + "allowed is \(allowed)")
            return nil
        }
    }
}

extension Shape where Value == Int {
    /// A whole number within `range`, in decimal digits.
    public static func integer(_ range: ClosedRange<Int>) -> Shape {
        .scalar("a whole number from \(range.lowerBound) to \(range.upperBound)") { scalar in
            guard scalar.isPlain, let value = Int(scalar.text), range.contains(value) else { return nil }
            return value
        }
    }

    /// Bytes, with a unit: B, kB, MB, GB (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024).
    public static func byteCount(_ range: ClosedRange<Int>) -> Shape {
        .scalar(
            "a size with its unit, such as \"512 MiB\" or \"32 MB\", from \(range.lowerBound) to \(range.upperBound) bytes"
        ) {
            guard let value = parseByteCount($0.text), range.contains(value) else { return nil }
            return value
        }
    }

    private static func parseByteCount(_ text: String) -> Int? {
        let units = [
            "B": 1, "kB": 1000, "MB": 1_000_000, "GB": 1_000_000_000,
            "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
        ]
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let unit = text[digits.endIndex...].drop { $0 == " " }
        guard let count = Int(digits), let factor = units[String(unit)] else { return nil }
        let (value, overflow) = count.multipliedReportingOverflow(by: factor)
        return overflow ? nil : value
    }
}

extension Shape where Value == Bool {
    /// `true` or `false`, unquoted. YAML 1.1's `yes`, `no`, `on` and `off` are refused, being names as often as not.
    public static var boolean: Shape {
        .scalar("true or false") { $0.isPlain ? ["true": true, "false": false][$0.text] : nil }
    }
}

extension Shape {
    /// A list, every item of the same shape; items that can't be read are left out and noted.
    @inlinable
    public static func list<Item>(of item: Shape<Item>) -> Shape where Value == [Item] {
        Shape("a list of \(item.allowed)") { node, path, problems in
            guard case .sequence(let nodes) = node.value else {
                problems.add(node, path, "found \(node.summary)", hint: "allowed is a list, each item \(item.allowed)")
                return nil
            }
            // A list may have a hundred thousand items.
            var items: [Item] = []
            items.reserveCapacity(nodes.count)
            for i in nodes.indices {
                if let value = item.read(nodes[i], path: path + "[" + String(i) + "]", into: problems) {
                    items.append(value)
                }
            }
            return items
        }
    }

    /// Any mapping whose keys and values each have a shape, in the order written.
    public static func dictionary<Item>(
        _ keys: Shape<String>, _ item: Shape<Item>
    ) -> Shape where Value == [(key: String, value: Item)] {
        Shape("a mapping from \(keys.allowed) to \(item.allowed)") { node, path, problems in
            guard case .mapping(let entries) = node.value else {
                problems.add(node, path, "found \(node.summary)", hint: "allowed is a mapping")
                return nil
            }
            return entries.compactMap { entry in
                let key = Node(value: .scalar(.init(text: entry.key, isPlain: false)), position: entry.keyPosition)
                let path = path.isEmpty ? entry.key : "\(path).\(entry.key)"
                guard let name = keys.read(key, path: path, into: problems) else { return nil }
                return item.read(entry.value, path: path, into: problems).map { (name, $0) }
            }
        }
    }

    /// A mapping with known keys, read by `body`; a key that `body` did not ask for is noted with a did-you-mean.
    @inlinable
    public static func mapping(_ allowed: String, _ body: @escaping (inout Fields) -> Value?) -> Shape {
        Shape(allowed) { node, path, problems in
            guard var fields = Fields(node, path: path, problems: problems) else { return nil }
            let value = body(&fields)
            fields.finish()
            return value
        }
    }

    /// The value with the node that it was read from, for errors that can only be found later.
    @inlinable
    public var located: Shape<Located<Value>> {
        Shape<Located<Value>>(allowed) { node, path, problems in
            parse(node, path, problems).map { Located(value: $0, position: node.position, path: path) }
        }
    }
}

/// A value and where it was written.
public struct Located<Value> {
    public var value: Value
    public var position: SourcePosition
    public var path: String

    @inlinable
    public init(value: Value, position: SourcePosition, path: String) {
        self.value = value
        self.position = position
        self.path = path
    }

    /// A problem with this value.
    public func problem(_ message: String, hint: String? = nil) -> Problem {
        Problem(position: position, path: path, message: message, hint: hint)
    }
}

extension Located: Sendable where Value: Sendable {}
extension Located: Equatable where Value: Equatable {}
extension Located: Hashable where Value: Hashable {}

/// The keys of one mapping while it is read.
public struct Fields {
    public let node: Node
    public let path: String
    public let problems: ProblemList
    @usableFromInline
    let entries: [Node.Entry]
    @usableFromInline
    var known: [String] = []
    /// A bit for what each key looks like: most keys that are asked for are absent.
    @usableFromInline
    var looks: UInt64 = 0
    /// A bit for each of the first entries that was asked for.
    @usableFromInline
    var found: UInt64 = 0

    @usableFromInline
    init?(_ node: Node, path: String, problems: ProblemList) {
        guard case .mapping(let list) = node.value else {
            problems.add(node, path, "found \(node.summary)", hint: "allowed is a mapping")
            return nil
        }
        self.node = node
        self.path = path
        self.problems = problems
        entries = list
        for entry in list { looks |= Self.look(of: entry.key) }
        known.reserveCapacity(32)
    }

    @usableFromInline
    static func look(of key: String) -> UInt64 {
        1 << ((UInt64(key.utf8.count) &* 5 &+ UInt64(key.utf8.first ?? 0)) & 63)
    }

    /// The value at `key`, or nil when the key is absent or its value wrong (which is noted).
    @inlinable
    public mutating func optional<Value>(_ key: String, _ shape: Shape<Value>) -> Value? {
        known.append(key)
        guard let index = index(of: key) else { return nil }
        found |= 1 << UInt64(index)
        return shape.read(entries[index].value, path: path(of: key), into: problems)
    }

    /// The value at `key`; its absence is a problem.
    @inlinable
    public mutating func required<Value>(_ key: String, _ shape: Shape<Value>) -> Value? {
        if !has(key) {
            problems.add(node, path(of: key), "the key is missing", hint: "it takes \(shape.allowed)")
        }
        return optional(key, shape)
    }

    /// True when the key is written.
    @inlinable
    public func has(_ key: String) -> Bool { index(of: key) != nil }

    /// Mappings of this kind have few keys: looking through them costs less than a dictionary.
    @usableFromInline
    func index(of key: String) -> Int? {
        guard looks & Self.look(of: key) != 0 else { return nil }
        for i in entries.indices where entries[i].key == key { return i }
        return nil
    }

    @usableFromInline
    func path(of key: String) -> String { path.isEmpty ? key : path + "." + key }

    @usableFromInline
    func finish() {
        if entries.count <= UInt64.bitWidth, found.nonzeroBitCount == entries.count { return }
        for entry in entries where !known.contains(entry.key) {
            let meant = didYouMean(entry.key, among: known).map { "did you mean \($0)? " } ?? ""
            problems.add(
                Problem(
                    position: entry.keyPosition, path: path(of: entry.key), message: "unknown key",
                    hint: meant + "allowed are " + known.sorted().joined(separator: ", ")))
        }
    }
}
