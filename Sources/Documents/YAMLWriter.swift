extension Node {
    /// The document as YAML that ``YAML/read(_:file:)`` reads as the same values: block style, two blanks a level; a list of
    /// scalars on one line. Comments are not in a tree, and so not in its text.
    public var yaml: String { lines.map { $0.text + "\n" }.joined() }

    /// The same with a comment behind each value: the place where it was written, `# FILE:LINE`.
    public var yamlWithOrigins: String {
        lines.map { line in
            guard let origin = line.origin else { return line.text + "\n" }
            return "\(line.text)  # \(origin.file):\(origin.line)\n"
        }.joined()
    }

    /// A line of the text, and the place of the value that ends in it.
    private typealias Line = (text: String, origin: SourcePosition?)

    private var lines: [Line] {
        switch value {
        case .mapping(let entries) where !entries.isEmpty: Self.lines(of: self, indent: 0)
        case .sequence(let items) where !items.isEmpty: Self.lines(of: self, indent: 0)
        default: [(inline, position)]
        }
    }

    /// Characters of a line up to which a list or a mapping of scalars is written within it.
    private static let width = 100

    private static func lines(of node: Node, indent: Int) -> [Line] {
        let margin = String(repeating: " ", count: indent)
        switch node.value {
        case .mapping(let entries):
            return entries.flatMap { entry -> [Line] in
                let key = margin + Scalar.written(entry.key) + ":"
                if let line = entry.value.short(within: width - key.count) {
                    return [("\(key) \(line)", entry.value.position)]
                }
                // A list stands as deep as its key's contents.
                return [(key, nil)] + lines(of: entry.value, indent: indent + 2)
            }
        case .sequence(let items):
            return items.flatMap { item -> [Line] in
                if let line = item.short(within: width - indent - 2) { return [("\(margin)- \(line)", item.position)] }
                var nested = lines(of: item, indent: indent + 2)
                nested[0].text = margin + "- " + nested[0].text.dropFirst(indent + 2)
                return nested
            }
        case .scalar: return [(margin + node.inline, node.position)]
        }
    }

    /// The value within a line, when it fits there: scalars, what is empty, and lists and mappings of scalars only.
    private func short(within width: Int) -> String? {
        switch value {
        case .scalar: return inline
        case .sequence(let items):
            guard items.allSatisfy(\.isScalar) else { return nil }
            return items.isEmpty || inline.count <= width ? inline : nil
        case .mapping(let entries): return entries.isEmpty ? inline : nil
        }
    }

    private var isScalar: Bool { if case .scalar = value { true } else { false } }

    /// In YAML's flow style.
    private var inline: String {
        switch value {
        case .scalar(let scalar):
            isNull
                ? "~" : scalar.isPlain && Scalar.isPlainText(scalar.text) ? scalar.text : Scalar.written(scalar.text)
        case .sequence(let items): "[" + items.map(\.inline).joined(separator: ", ") + "]"
        case .mapping(let entries):
            "{" + entries.map { "\(Scalar.written($0.key)): \($0.value.inline)" }.joined(separator: ", ") + "}"
        }
    }
}

extension Node.Scalar {
    /// A text that means itself without quotes, in both of YAML's styles.
    static func isPlainText(_ text: String) -> Bool {
        guard let first = text.utf8.first, text.utf8.last != UInt8(ascii: ":") else { return false }
        let isWord: (UInt8) -> Bool = {
            (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
        }
        let others = Array("._-/:+@ ".utf8)
        return (isWord(first) || first == UInt8(ascii: "/")) && text.utf8.last != UInt8(ascii: " ")
            && text.utf8.allSatisfy { isWord($0) || others.contains($0) } && text.place(of: ": ") == nil
            && text.place(of: " #") == nil
    }

    /// A text that is no number, truth value or null, whatever it looks like.
    static func written(_ text: String) -> String {
        let isWord = text.utf8.first.map { $0 >= 0x41 || $0 == 0x2F } ?? false
        let others = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        return isWord && isPlainText(text) && !others.contains(text.lowercased()) ? text : JSON.text(text).line
    }
}
