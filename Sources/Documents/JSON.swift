/// A JSON value to be written (RFC 8259). Objects are written with their keys sorted, so the same value is always the
/// same bytes.
public enum JSON: Sendable, Hashable {
    case null
    case boolean(Bool)
    case integer(Int)
    case text(String)
    case list([JSON])
    case object([String: JSON])

    /// The text, on one line.
    public var line: String {
        var bytes: [UInt8] = []
        write(into: &bytes, indent: nil)
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Appends the text of ``line``.
    public func write(into bytes: inout [UInt8]) { write(into: &bytes, indent: nil) }

    /// The text with two blanks a level, and a line's end.
    public var pretty: String {
        var bytes: [UInt8] = []
        write(into: &bytes, indent: 0)
        return String(decoding: bytes, as: UTF8.self) + "\n"
    }

    /// Writes the text behind what is in `bytes`: plans of ten thousand rules pass through here.
    private func write(into bytes: inout [UInt8], indent: Int?) {
        func line(_ level: Int) {
            bytes.append(UInt8(ascii: "\n"))
            bytes.append(contentsOf: repeatElement(UInt8(ascii: " "), count: 2 * level))
        }
        switch self {
        case .null: bytes.append(contentsOf: "null".utf8)
        case .boolean(let value): bytes.append(contentsOf: (value ? "true" : "false").utf8)
        case .integer(let value): Self.write(value, into: &bytes)
        case .text(let text): Self.writeQuoted(text, into: &bytes)
        case .list(let items):
            bytes.append(UInt8(ascii: "["))
            for i in items.indices {
                if i > 0 { bytes.append(UInt8(ascii: ",")) }
                if let indent { line(indent + 1) }
                items[i].write(into: &bytes, indent: indent.map { $0 + 1 })
            }
            if let indent, !items.isEmpty { line(indent) }
            bytes.append(UInt8(ascii: "]"))
        case .object(let entries):
            bytes.append(UInt8(ascii: "{"))
            let sorted = entries.count > 1 ? entries.sorted { $0.key < $1.key } : entries.map { ($0.key, $0.value) }
            for i in sorted.indices {
                if i > 0 { bytes.append(UInt8(ascii: ",")) }
                if let indent { line(indent + 1) }
                Self.writeQuoted(sorted[i].0, into: &bytes)
                bytes.append(UInt8(ascii: ":"))
                if indent != nil { bytes.append(UInt8(ascii: " ")) }
                sorted[i].1.write(into: &bytes, indent: indent.map { $0 + 1 })
            }
            if let indent, !entries.isEmpty { line(indent) }
            bytes.append(UInt8(ascii: "}"))
        }
    }

    /// Appends a number.
    public static func write(_ number: Int, into bytes: inout [UInt8]) {
        // Small texts are no allocation.
        bytes.append(contentsOf: String(number).utf8)
    }

    /// Appends a text as JSON, in quotes.
    public static func writeQuoted(_ text: String, into bytes: inout [UInt8]) {
        bytes.append(UInt8(ascii: "\""))
        var text = text
        text.withUTF8 { text in
            // Pieces without anything to escape are copied as they are.
            var (start, place) = (0, 0)
            while place < text.count {
                let length = escapedLength(text, place)
                if length == 0 {
                    place += 1
                    continue
                }
                bytes.append(contentsOf: UnsafeBufferPointer(rebasing: text[start..<place]))
                writeEscaped(text, place, length, into: &bytes)
                place += length
                start = place
            }
            bytes.append(contentsOf: UnsafeBufferPointer(rebasing: text[start...]))
        }
        bytes.append(UInt8(ascii: "\""))
    }

    /// Bytes of the character at a place of UTF-8 that is not written as it is: beside those that
    /// JSON escapes, those that YAML, which reads this too, takes for control characters or line
    /// ends, and bidirectional marks, which a terminal obeys. 0 for others.
    private static func escapedLength(_ text: UnsafeBufferPointer<UInt8>, _ place: Int) -> Int {
        let byte = text[place]
        if byte < 0x7F { return byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") ? 1 : 0 }
        switch byte {
        case 0x7F: return 1
        // U+0080 to U+009F.
        case 0xC2: return text[place + 1] < 0xA0 ? 2 : 0
        // U+061C.
        case 0xD8: return text[place + 1] == 0x9C ? 2 : 0
        // U+200E, U+200F, U+2028 to U+202E, and U+2066 to U+2069.
        case 0xE2:
            switch (text[place + 1], text[place + 2]) {
            case (0x80, 0x8E...0x8F), (0x80, 0xA8...0xAE), (0x81, 0xA6...0xA9): return 3
            default: return 0
            }
        // U+FEFF.
        case 0xEF: return text[place + 1] == 0xBB && text[place + 2] == 0xBF ? 3 : 0
        default: return 0
        }
    }

    private static func writeEscaped(
        _ text: UnsafeBufferPointer<UInt8>, _ place: Int, _ length: Int, into bytes: inout [UInt8]
    ) {
        switch text[place] {
        case UInt8(ascii: "\""): bytes.append(contentsOf: "\\\"".utf8)
        case UInt8(ascii: "\\"): bytes.append(contentsOf: "\\\\".utf8)
        case UInt8(ascii: "\n"): bytes.append(contentsOf: "\\n".utf8)
        case UInt8(ascii: "\t"): bytes.append(contentsOf: "\\t".utf8)
        default:
            let scalar = String(decoding: text[place..<place + length], as: UTF8.self).unicodeScalars.first
            let hex = String(scalar?.value ?? 0, radix: 16)
            bytes.append(contentsOf: ("\\u" + String(repeating: "0", count: 4 - hex.count) + hex).utf8)
        }
    }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
    ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    public init(stringLiteral value: String) { self = .text(value) }
    public init(integerLiteral value: Int) { self = .integer(value) }
    public init(booleanLiteral value: Bool) { self = .boolean(value) }
    public init(arrayLiteral elements: JSON...) { self = .list(elements) }
    public init(dictionaryLiteral elements: (String, JSON)...) {
        self = .object(Dictionary(elements) { $1 })
    }
}
