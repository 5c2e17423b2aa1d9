import Documents

/// A few lines of another program's output, for an error: bounded, and with control characters escaped,
/// because a terminal obeys them.
enum Excerpt {
    /// Lines of an excerpt, bytes of a line, and bytes of the output that are read for it.
    static let (lines, width, most) = (5, 240, 16 << 10)

    /// The last lines.
    static func last(of output: [UInt8]) -> [String] { Array(all(of: output.suffix(most)).suffix(lines)) }

    /// The first and the last lines: some programs report the cause first, and some at the end.
    static func ends(of output: [UInt8]) -> [String] {
        let isWhole = output.count <= most
        let first = all(of: output.prefix(most))
        if isWhole, first.count <= 2 * lines { return first }
        let last = isWhole ? first : all(of: output.suffix(most))
        return Array(first.prefix(lines)) + ["…"] + Array(last.suffix(lines))
    }

    /// An indented line each, below the first line of an error.
    static func text(_ lines: [String]) -> String { lines.map { "\n  \($0)" }.joined() }

    private static func all(of output: ArraySlice<UInt8>) -> [String] {
        output.split { $0 == 0x0A || $0 == 0x0D }.map { line in
            let text = escaped(String(decoding: line.prefix(width), as: UTF8.self))
            return line.count > width ? text + "…" : text
        }
    }

    /// Control characters, and those that change the direction of writing, by their numbers.
    static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0x09: result += " "
            case 0..<0x20, 0x7F..<0xA0, 0x200E...0x200F, 0x2028...0x202E, 0x2066...0x2069:
                result += "\\u{\(String(scalar.value, radix: 16))}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
