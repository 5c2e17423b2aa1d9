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
                var parser = Parser(bytes: buffer, left: values)
                return try parser.document(depth: depth)
            }
        }
        return try result.get()
    }

    /// Reads one JSON value.
    public static func parse(_ text: String) throws(InvalidJSON) -> JSON { try parse(text.utf8) }

    private struct Parser {
        let bytes: UnsafeBufferPointer<UInt8>
        var position = 0
        /// Values that may still come.
        var left: Int

        init(bytes: UnsafeBufferPointer<UInt8>, left: Int) { (self.bytes, self.left) = (bytes, left) }

        mutating func document(depth: Int) throws(InvalidJSON) -> JSON {
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

        mutating func value(depth: Int) throws(InvalidJSON) -> JSON {
            guard depth > 0 else { throw problem("nested too deep") }
            guard left > 0 else { throw problem("too many values") }
            left -= 1
            skipBlanks()
            switch next {
            case UInt8(ascii: "{"): return try object(depth: depth)
            case UInt8(ascii: "["): return try list(depth: depth)
            case UInt8(ascii: "\""): return .text(try text())
            case UInt8(ascii: "t"): return try word("true", .boolean(true))
            case UInt8(ascii: "f"): return try word("false", .boolean(false))
            case UInt8(ascii: "n"): return try word("null", .null)
            case nil: throw problem("the text ends where a value was expected")
            default: return try number()
            }
        }

        mutating func word(_ word: StaticString, _ value: JSON) throws(InvalidJSON) -> JSON {
            for i in 0..<word.utf8CodeUnitCount where !take(word.utf8Start[i]) { throw problem("an unknown word") }
            return value
        }

        mutating func number() throws(InvalidJSON) -> JSON {
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
            if isNegative { return .integer(value) }
            guard value != .min else { throw problem("a number beyond 64 bits") }
            return .integer(-value)
        }

        mutating func list(depth: Int) throws(InvalidJSON) -> JSON {
            position += 1
            var items: [JSON] = []
            skipBlanks()
            if take(UInt8(ascii: "]")) { return .list(items) }
            while true {
                items.append(try value(depth: depth - 1))
                skipBlanks()
                if take(UInt8(ascii: "]")) { return .list(items) }
                guard take(UInt8(ascii: ",")) else { throw problem("a comma or ] was expected") }
            }
        }

        mutating func object(depth: Int) throws(InvalidJSON) -> JSON {
            position += 1
            var entries: [String: JSON] = [:]
            skipBlanks()
            if take(UInt8(ascii: "}")) { return .object(entries) }
            while true {
                skipBlanks()
                guard next == UInt8(ascii: "\"") else { throw problem("a key in quotes was expected") }
                let key = try text()
                skipBlanks()
                guard take(UInt8(ascii: ":")) else { throw problem("a colon was expected") }
                guard entries.updateValue(try value(depth: depth - 1), forKey: key) == nil else {
                    throw problem("the key \"\(key)\" stands twice")
                }
                skipBlanks()
                if take(UInt8(ascii: "}")) { return .object(entries) }
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
            if take(UInt8(ascii: "\"")) { return try decode(Array(bytes[start..<position - 1])) }
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

        func decode(_ bytes: [UInt8]) throws(InvalidJSON) -> String {
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

extension JSON {
    /// A document as plain data. Plain scalars become numbers, booleans and null where they are written as those and
    /// nothing is lost; anything else is text.
    public init(_ node: Node) {
        switch node.value {
        case .scalar(let scalar):
            if node.isNull {
                self = .null
            } else if scalar.isPlain, let value = Int(scalar.text), String(value) == scalar.text {
                self = .integer(value)
            } else if scalar.isPlain, scalar.text == "true" || scalar.text == "false" {
                self = .boolean(scalar.text == "true")
            } else {
                self = .text(scalar.text)
            }
        case .sequence(let items): self = .list(items.map { JSON($0) })
        case .mapping(let entries): self = .object(Dictionary(entries.map { ($0.key, JSON($0.value)) }) { $1 })
        }
    }
}

extension Node {
    /// Plain data as a document whose nodes all stand at `position`.
    public init(_ json: JSON, position: SourcePosition) {
        func scalar(_ text: String, isPlain: Bool) -> Value { .scalar(.init(text: text, isPlain: isPlain)) }
        let value: Value =
            switch json {
            case .null: scalar("null", isPlain: true)
            case .boolean(let value): scalar(value ? "true" : "false", isPlain: true)
            case .integer(let value): scalar(String(value), isPlain: true)
            case .text(let text): scalar(text, isPlain: false)
            case .list(let items): .sequence(items.map { Node($0, position: position) })
            case .object(let entries):
                .mapping(
                    entries.sorted { $0.key < $1.key }.map {
                        Entry(key: $0.key, keyPosition: position, value: Node($0.value, position: position))
                    })
            }
        self.init(value: value, position: position)
    }
}
