/// The death of a machine's kernel, as its console tells it.
public struct KernelFault: Sendable, Hashable {
    /// The first line that says so, without its time.
    public var line: String

    /// Nil when the console tells of none.
    public init?(console: String) {
        let lines = console.split(whereSeparator: \.isNewline)
        func first(_ words: String) -> Substring? { lines.first { $0.contains(words) } }
        // An oops comes before its panic, and says more.
        guard let line = first("Oops: ") ?? first("Kernel panic - not syncing") else { return nil }
        self.line = String(line.firstRange(of: "] ").map { line[$0.upperBound...] } ?? line)
    }
}
