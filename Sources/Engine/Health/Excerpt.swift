import Documents
import Terminals

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
            let text = TerminalText.line(TerminalText.validated(line.prefix(width).map { $0 == 0x09 ? 0x20 : $0 }))
            return line.count > width ? text + "…" : text
        }
    }
}
