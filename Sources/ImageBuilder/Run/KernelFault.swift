/// A crash of a machine's kernel, as its console shows it.
public struct KernelFault: Sendable, Hashable {
    /// The first line of the report, without its time.
    public var line: String

    /// Nil when the console shows none.
    public init?(console: String) {
        let lines = console.split(whereSeparator: \.isNewline)
        func first(_ words: String) -> Substring? { lines.first { $0.contains(words) } }
        // An oops precedes its panic, and contains the fault.
        guard let line = first("Oops: ") ?? first("Kernel panic - not syncing") else { return nil }
        self.line = String(line.firstRange(of: "] ").map { line[$0.upperBound...] } ?? line)
    }
}
