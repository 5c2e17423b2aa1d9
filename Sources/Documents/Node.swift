/// Where something stands in a document. Lines and columns count from 1, columns in Unicode characters.
public struct SourcePosition: Sendable, Hashable, CustomStringConvertible {
    public var file: String
    public var line: Int
    public var column: Int

    public init(file: String, line: Int, column: Int) {
        self.file = file
        self.line = line
        self.column = column
    }

    public var description: String { "\(file):\(line):\(column)" }
}

/// A tree read from YAML or JSON; every node knows where it stands.
public struct Node: Sendable, Hashable {
    public enum Value: Sendable, Hashable {
        case scalar(Scalar)
        case sequence([Node])
        case mapping([Entry])
    }

    /// A scalar as written. YAML's implicit types are decided by the reader, which knows what it wants: `no` is
    /// a string where a name is wanted and never silently a boolean.
    public struct Scalar: Sendable, Hashable {
        public var text: String
        /// Plain scalars may be numbers, booleans or null; quoted and block ones are always strings.
        public var isPlain: Bool

        public init(text: String, isPlain: Bool) {
            self.text = text
            self.isPlain = isPlain
        }
    }

    /// One `key: value` of a mapping, in the order written. Keys are unique within a mapping.
    public struct Entry: Sendable, Hashable {
        public var key: String
        public var keyPosition: SourcePosition
        public var value: Node

        public init(key: String, keyPosition: SourcePosition, value: Node) {
            self.key = key
            self.keyPosition = keyPosition
            self.value = value
        }
    }

    public var value: Value
    public var position: SourcePosition

    public init(value: Value, position: SourcePosition) {
        self.value = value
        self.position = position
    }

    /// True for an empty value (`key:`), `~` and `null`.
    public var isNull: Bool {
        guard case .scalar(let scalar) = value, scalar.isPlain else { return false }
        return scalar.text.isEmpty || scalar.text == "~" || scalar.text == "null"
    }

    /// What a person would call this node in an error: `a list of 3`, `"text"`, …
    public var summary: String {
        switch value {
        case .scalar where isNull: "nothing"
        case .scalar(let scalar):
            "\"\(scalar.text.prefix(60))\(scalar.text.count > 60 ? "…" : "")\""
        case .sequence(let items): "a list of \(items.count)"
        case .mapping(let entries): "a mapping of \(entries.count)"
        }
    }
}
