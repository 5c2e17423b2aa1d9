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
    public var line: String { write(indent: nil) }
    /// The text with two blanks a level, and a line's end.
    public var pretty: String { write(indent: 0) + "\n" }

    private func write(indent: Int?) -> String {
        let inner = indent.map { $0 + 1 }
        func block(_ open: String, _ close: String, _ items: [String]) -> String {
            guard let indent, !items.isEmpty else { return open + items.joined(separator: ",") + close }
            let margin = String(repeating: "  ", count: indent)
            return "\(open)\n" + items.map { "\(margin)  \($0)" }.joined(separator: ",\n") + "\n\(margin)\(close)"
        }
        switch self {
        case .null: return "null"
        case .boolean(let value): return value ? "true" : "false"
        case .integer(let value): return String(value)
        case .text(let text): return Self.quoted(text)
        case .list(let items): return block("[", "]", items.map { $0.write(indent: inner) })
        case .object(let entries):
            let colon = indent == nil ? ":" : ": "
            return block(
                "{", "}",
                entries.sorted { $0.key < $1.key }.map { Self.quoted($0.key) + colon + $0.value.write(indent: inner) })
        }
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\t": result += "\\t"
            case "\u{0}"..<"\u{20}":
                let hex = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
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
