/// Why a text is not JSON, and where.
public struct InvalidJSON: Error, Sendable, Hashable, CustomStringConvertible {
    /// Bytes from the start of the text.
    public var offset: Int
    public var message: String

    public var description: String { "byte \(offset): \(message)" }
}

extension JSON {
    /// Reads one JSON value (RFC 8259).
    ///
    /// Numbers are whole: nothing here has a fraction, and 64 bits survive. Of two equal keys the text is refused, since
    /// one reader would take the first and another the last.
    ///
    /// - Parameters:
    ///   - depth: the deepest nesting that is taken; a hostile text must not exhaust the stack.
    ///   - values: the most values that are taken: each costs some ten times the memory of its text.
    public static func parse(
        _ bytes: some Sequence<UInt8>, depth: Int = 64, values: Int = .max
    ) throws(InvalidJSON) -> JSON {
        let bytes = Array(bytes)
        let result: Result<JSON, InvalidJSON> = bytes.withUnsafeBufferPointer { buffer in
            Result { () throws(InvalidJSON) -> JSON in
                var parser = JSONParser<JSON>(bytes: buffer, left: values, ())
                return try parser.document(depth: depth)
            }
        }
        return try result.get()
    }

    /// Reads one JSON value.
    public static func parse(_ text: String) throws(InvalidJSON) -> JSON { try parse(text.utf8) }
}

extension Node {
    /// Reads one JSON value as a document whose nodes all have the same position. It equals what
    /// ``init(_:position:)`` makes of the value, but for the order of keys, which is that of the
    /// text.
    public init(json bytes: [UInt8], position: SourcePosition, depth: Int = 64) throws(InvalidJSON) {
        let result: Result<Node, InvalidJSON> = bytes.withUnsafeBufferPointer { buffer in
            Result { () throws(InvalidJSON) -> Node in
                var parser = JSONParser<Node>(bytes: buffer, left: .max, position)
                return try parser.document(depth: depth)
            }
        }
        self = try result.get()
    }
}

/// What a parser makes of JSON.
private protocol ParsedJSON {
    associatedtype Context
    associatedtype Entries

    /// - Parameter scalar: neither a list nor an object.
    init(_ scalar: JSON, _ context: Context)
    init(items: [Self], _ context: Context)
    static var noEntries: Entries { get }
    init(entries: Entries, _ context: Context)
    /// Adds an entry of an object; false when the key is there already.
    static func add(_ value: Self, at key: String, to entries: inout Entries, _ context: Context) -> Bool
}

extension JSON: ParsedJSON {
    fileprivate init(_ scalar: JSON, _ context: Void) { self = scalar }
    fileprivate init(items: [JSON], _ context: Void) { self = .list(items) }
    fileprivate static var noEntries: [String: JSON] { [:] }
    fileprivate init(entries: [String: JSON], _ context: Void) { self = .object(entries) }

    fileprivate static func add(
        _ value: JSON, at key: String, to entries: inout [String: JSON], _ context: Void
    ) -> Bool { entries.updateValue(value, forKey: key) == nil }
}

extension Node: ParsedJSON {
    /// The entries of an object, and the keys of one that has many.
    fileprivate struct Entries {
        var list: [Entry] = []
        var keys: Set<String> = []

        /// Entries up to which looking through them costs less than a set.
        static let few = 16
    }

    fileprivate init(_ scalar: JSON, _ context: SourcePosition) { self.init(scalar, position: context) }

    fileprivate init(items: [Node], _ context: SourcePosition) {
        self.init(value: .sequence(items), position: context)
    }

    fileprivate static var noEntries: Entries { Entries() }

    fileprivate init(entries: Entries, _ context: SourcePosition) {
        self.init(value: .mapping(entries.list), position: context)
    }

    fileprivate static func add(
        _ value: Node, at key: String, to entries: inout Entries, _ context: SourcePosition
    ) -> Bool {
        if entries.list.count < Entries.few {
            if entries.list.contains(where: { $0.key == key }) { return false }
        } else {
            if entries.list.count == Entries.few { entries.keys = Set(entries.list.map(\.key)) }
            if !entries.keys.insert(key).inserted { return false }
        }
        entries.list.append(Entry(key: key, keyPosition: context, value: value))
        return true
    }
}

private struct JSONParser<Value: ParsedJSON> {
    let bytes: UnsafeBufferPointer<UInt8>
    var position = 0
    /// Values that may still come.
    var left: Int

    let context: Value.Context

    init(bytes: UnsafeBufferPointer<UInt8>, left: Int, _ context: Value.Context) {
        (self.bytes, self.left, self.context) = (bytes, left, context)
    }

    mutating func document(depth: Int) throws(InvalidJSON) -> Value {
        let value = try value(depth: depth)
        skipBlanks()
        guard position == bytes.count else { throw problem("something follows the value") }
        return value
    }

    func problem(_ message: String) -> InvalidJSON { InvalidJSON(offset: position, message: message) }

    var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    mutating func skipBlanks() {
        while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
    }

    mutating func take(_ byte: UInt8) -> Bool {
        guard next == byte else { return false }
        position += 1
        return true
    }

    mutating func value(depth: Int) throws(InvalidJSON) -> Value {
        guard depth > 0 else { throw problem("nested too deep") }
        guard left > 0 else { throw problem("too many values") }
        left -= 1
        skipBlanks()
        switch next {
        case UInt8(ascii: "{"): return try object(depth: depth)
        case UInt8(ascii: "["): return try list(depth: depth)
        case UInt8(ascii: "\""): return Value(.text(try text()), context)
        case UInt8(ascii: "t"): return try word("true", .boolean(true))
        case UInt8(ascii: "f"): return try word("false", .boolean(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case nil: throw problem("the text ends where a value was expected")
        default: return try number()
        }
    }

    mutating func word(_ word: StaticString, _ value: JSON) throws(InvalidJSON) -> Value {
        for i in 0..<word.utf8CodeUnitCount where !take(word.utf8Start[i]) { throw problem("an unknown word") }
        return Value(value, context)
    }

    mutating func number() throws(InvalidJSON) -> Value {
        let start = position
        let isNegative = take(UInt8(ascii: "-"))
        var value = 0
        let digits = position
        while let byte = next, byte >= 0x30, byte <= 0x39 {
            let (shifted, first) = value.multipliedReportingOverflow(by: 10)
            let (sum, second) = shifted.subtractingReportingOverflow(Int(byte - 0x30))
            guard !first, !second else { throw problem("a number beyond 64 bits") }
            value = sum
            position += 1
        }
        guard position > digits else { throw problem("a value was expected") }
        if position - digits > 1, bytes[digits] == 0x30 { throw problem("a number with leading zeros") }
        if let byte = next, byte == UInt8(ascii: ".") || byte | 0x20 == UInt8(ascii: "e") {
            position = start
            throw problem("a number that is not whole")
        }
        if isNegative { return Value(.integer(value), context) }
        guard value != .min else { throw problem("a number beyond 64 bits") }
        return Value(.integer(-value), context)
    }

    mutating func list(depth: Int) throws(InvalidJSON) -> Value {
        position += 1
        var items: [Value] = []
        skipBlanks()
        if take(UInt8(ascii: "]")) { return Value(items: items, context) }
        while true {
            items.append(try value(depth: depth - 1))
            skipBlanks()
            if take(UInt8(ascii: "]")) { return Value(items: items, context) }
            guard take(UInt8(ascii: ",")) else { throw problem("a comma or ] was expected") }
        }
    }

    mutating func object(depth: Int) throws(InvalidJSON) -> Value {
        position += 1
        var entries = Value.noEntries
        skipBlanks()
        if take(UInt8(ascii: "}")) { return Value(entries: entries, context) }
        while true {
            skipBlanks()
            guard next == UInt8(ascii: "\"") else { throw problem("a key in quotes was expected") }
            let key = try text()
            skipBlanks()
            guard take(UInt8(ascii: ":")) else { throw problem("a colon was expected") }
            guard Value.add(try value(depth: depth - 1), at: key, to: &entries, context) else {
                throw problem("the key \"\(key)\" stands twice")
            }
            skipBlanks()
            if take(UInt8(ascii: "}")) { return Value(entries: entries, context) }
            guard take(UInt8(ascii: ",")) else { throw problem("a comma or } was expected") }
        }
    }

    mutating func text() throws(InvalidJSON) -> String {
        position += 1
        let start = position
        while let byte = next, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 {
            position += 1
        }
        // Most texts hold no escape: taken in one piece.
        if take(UInt8(ascii: "\"")) { return try decode(UnsafeBufferPointer(rebasing: bytes[start..<position - 1])) }
        var result = Array(bytes[start..<position])
        while let byte = next, byte >= 0x20 {
            position += 1
            if byte == UInt8(ascii: "\"") { return try decode(result) }
            guard byte == UInt8(ascii: "\\") else {
                result.append(byte)
                continue
            }
            let escaped = next
            position += 1
            switch escaped {
            case UInt8(ascii: "n"): result.append(0x0A)
            case UInt8(ascii: "t"): result.append(0x09)
            case UInt8(ascii: "r"): result.append(0x0D)
            case UInt8(ascii: "b"): result.append(0x08)
            case UInt8(ascii: "f"): result.append(0x0C)
            case UInt8(ascii: "u"): result += String(try character()).utf8
            case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): result.append(escaped ?? 0)
            default: throw problem("an unknown escape in a text")
            }
        }
        throw problem(next == nil ? "a text without its end" : "a control character in a text")
    }

    func decode(_ bytes: some Sequence<UInt8>) throws(InvalidJSON) -> String {
        guard let text = String(validating: bytes, as: UTF8.self) else { throw problem("a text that is not UTF-8") }
        return text
    }

    mutating func unit() throws(InvalidJSON) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = next, let digit = Character(UnicodeScalar(byte)).hexDigitValue else {
                throw problem("\\u wants four hexadecimal digits")
            }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        return value
    }

    mutating func character() throws(InvalidJSON) -> Character {
        var value = try unit()
        if value >= 0xD800, value < 0xDC00, take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) {
            let low = try unit()
            guard low >= 0xDC00, low < 0xE000 else { throw problem("half a surrogate pair") }
            value = 0x10000 + (value - 0xD800) << 10 + (low - 0xDC00)
        }
        guard let scalar = UnicodeScalar(value) else { throw problem("half a surrogate pair") }
        return Character(scalar)
    }
}

extension JSON {
    /// The value at `key` of an object; nil for anything else.
    public subscript(key: String) -> JSON? {
        guard case .object(let entries) = self else { return nil }
        return entries[key]
    }

    public var text: String? { if case .text(let text) = self { text } else { nil } }
    public var integer: Int? { if case .integer(let value) = self { value } else { nil } }
    public var boolean: Bool? { if case .boolean(let value) = self { value } else { nil } }
    public var list: [JSON]? { if case .list(let items) = self { items } else { nil } }
    public var object: [String: JSON]? { if case .object(let entries) = self { entries } else { nil } }

    /// An object without the keys whose value is nil, so that what isn't said isn't written.
    public static func object(_ entries: KeyValuePairs<String, JSON?>) -> JSON {
        .object(Dictionary(entries.compactMap { entry in entry.value.map { (entry.key, $0) } }) { $1 })
    }

    /// A list of texts.
    public static func texts(_ items: some Sequence<String>) -> JSON { .list(items.map { .text($0) }) }
}
