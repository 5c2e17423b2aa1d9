/// A statement of a YANG module (RFC 7950, section 6.3): a keyword, an argument, and what stands within it.
public struct YANGStatement: Sendable, Hashable {
    public var keyword: String
    public var argument: String
    public var children: [YANGStatement]

    public subscript(keyword: String) -> YANGStatement? { children.first { $0.keyword == keyword } }

    public func all(_ keyword: String) -> [YANGStatement] { children.filter { $0.keyword == keyword } }

    /// Reads a module.
    ///
    /// - Returns: nil for a text that is none; yanglint says why.
    public init?(module text: String) {
        var reader = Reader(text: Array(text.unicodeScalars))
        guard let statement = reader.statement(), statement.keyword == "module" else { return nil }
        self = statement
    }

    private init(keyword: String, argument: String, children: [YANGStatement]) {
        (self.keyword, self.argument, self.children) = (keyword, argument, children)
    }

    private struct Reader {
        let text: [Unicode.Scalar]
        var place = 0

        private var current: Unicode.Scalar? { text.indices.contains(place) ? text[place] : nil }
        private var next: Unicode.Scalar? { text.indices.contains(place + 1) ? text[place + 1] : nil }

        private mutating func skip() {
            while let scalar = current {
                if scalar.properties.isWhitespace {
                    place += 1
                } else if scalar == "/", next == "/" {
                    while let scalar = current, scalar != "\n" { place += 1 }
                } else if scalar == "/", next == "*" {
                    place += 2
                    while current != nil, !(current == "*" && next == "/") { place += 1 }
                    place += 2
                } else {
                    return
                }
            }
        }

        private mutating func word() -> String {
            var word = String.UnicodeScalarView()
            while let scalar = current, !scalar.properties.isWhitespace, ![";", "{", "}"].contains(scalar) {
                word.append(scalar)
                place += 1
            }
            return String(word)
        }

        private mutating func quoted() -> String? {
            guard let quote = current, quote == "\"" || quote == "'" else { return nil }
            var result = String.UnicodeScalarView()
            place += 1
            while let scalar = current, scalar != quote {
                place += 1
                // Within double quotes alone.
                if scalar == "\\", quote == "\"", let escaped = current {
                    result.append(escaped == "n" ? "\n" : escaped == "t" ? "\t" : escaped)
                    place += 1
                } else {
                    result.append(scalar)
                }
            }
            place += 1
            skip()
            if current == "+" {
                place += 1
                skip()
                return String(result) + (quoted() ?? "")
            }
            return String(result)
        }

        mutating func statement() -> YANGStatement? {
            skip()
            let keyword = word()
            guard !keyword.isEmpty else { return nil }
            skip()
            let argument = quoted() ?? word()
            skip()
            if current == ";" {
                place += 1
                return YANGStatement(keyword: keyword, argument: argument, children: [])
            }
            guard current == "{" else { return nil }
            place += 1
            var children: [YANGStatement] = []
            while true {
                skip()
                if current == "}" {
                    place += 1
                    return YANGStatement(keyword: keyword, argument: argument, children: children)
                }
                guard let child = statement() else { return nil }
                children.append(child)
            }
        }
    }
}
