import Documents
import Glibc
import Terminals

/// A table for people: numbers to the right; on a terminal it fits 80 columns, the longest texts cut.
struct TextTable {
    private static let width = isatty(1) == 1 ? 80 : Int.max

    let columns: [String]
    let rows: [[JSON]]

    private static func text(_ value: JSON) -> String {
        switch value {
        case .text(let text): TerminalText.line(text)
        case .null: ""
        default: value.line
        }
    }

    static func left(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }

    private static func right(_ text: String, _ width: Int) -> String {
        String(repeating: " ", count: max(0, width - text.count)) + text
    }

    var lines: [String] {
        let cells = rows.map { $0.map(Self.text) }
        let titles = columns.map { TerminalText.line($0.uppercased()) }
        var widths = columns.indices.map { column in
            ([titles[column]] + cells.filter { $0.indices.contains(column) }.map { $0[column] }).map(\.count).max()
                ?? 0
        }
        // The widest gives way first, down to its title.
        while widths.reduce(0, +) + 2 * (widths.count - 1) > Self.width,
            let widest = widths.indices.max(by: { widths[$0] < widths[$1] }), widths[widest] > 8
        {
            widths[widest] -= 1
        }
        let isNumber = columns.indices.map { column in
            !rows.isEmpty
                && rows.allSatisfy { row in
                    guard row.indices.contains(column) else { return true }
                    return row[column].integer != nil || row[column] == .null
                }
        }
        func line(_ cells: [String]) -> String {
            let parts = cells.enumerated().map { column, cell in
                let width = widths[column]
                let fitting = cell.count > width ? cell.prefix(width - 1) + "…" : cell[...]
                return isNumber[column] ? Self.right(String(fitting), width) : Self.left(String(fitting), width)
            }
            var text = parts.joined(separator: "  ")
            while text.last == " " { text.removeLast() }
            return text
        }
        return [line(titles)] + cells.map(line)
    }

    var text: String { lines.map { $0 + "\n" }.joined() }

    /// The rows by their columns' names.
    var json: JSON {
        .list(rows.map { row in .object(Dictionary(zip(columns, row)) { $1 }) })
    }
}
