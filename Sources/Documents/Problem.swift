/// One thing wrong with a document: where, what was found, what is allowed, what to try.
public struct Problem: Error, Sendable, Hashable, CustomStringConvertible {
    public var position: SourcePosition
    /// The node's path, such as `partitions.root-size` or `services[2].command`; empty for the whole document.
    public var path: String
    /// What was found, and why it can't stand.
    public var message: String
    /// What to do instead, where that is known.
    public var hint: String?

    public init(position: SourcePosition, path: String, message: String, hint: String? = nil) {
        self.position = position
        self.path = path
        self.message = message
        self.hint = hint
    }

    public var description: String {
        let subject = path.isEmpty ? "" : "\(path): "
        return "\(position): \(subject)\(message)" + (hint.map { "; \($0)" } ?? "")
    }
}

/// All that is wrong with a document, in the order of its lines.
public struct InvalidDocument: Error, Sendable, CustomStringConvertible {
    public var problems: [Problem]

    public init(_ problems: [Problem]) {
        self.problems = problems.sorted {
            ($0.position.file, $0.position.line, $0.position.column)
                < ($1.position.file, $1.position.line, $1.position.column)
        }
    }

    public var description: String { problems.map { "error: \($0)" }.joined(separator: "\n") }
}
