/// The words of systemd.syntax(7).
enum SystemdSyntax {
    struct Word: Hashable {
        var text: String
        /// It has quotes or escapes, so that `;` is itself.
        var isQuoted = false
    }

    /// Splits at blanks. Quotes hold words together; C escapes are replaced; a backslash before
    /// another character remains.
    static func words(_ line: some StringProtocol) -> [Word] {
        var words: [Word] = []
        var word: [UInt8]?
        var isQuoted = false
        var quote: UInt8?
        var rest = Array(line.utf8)[...]
        func finish() {
            if let bytes = word { words.append(Word(text: String(decoding: bytes, as: UTF8.self), isQuoted: isQuoted)) }
            (word, isQuoted) = (nil, false)
        }
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\") {
                isQuoted = true
                var after = rest
                if let bytes = ConfigurationFiles.escape(&after) {
                    word = (word ?? []) + bytes
                    rest = after
                } else if rest.first == UInt8(ascii: ";") {
                    word = (word ?? []) + [rest.removeFirst()]
                } else {
                    word = (word ?? []) + [byte]
                }
            } else if let open = quote {
                if byte == open { quote = nil } else { word = (word ?? []) + [byte] }
            } else if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") {
                (quote, isQuoted, word) = (byte, true, word ?? [])
            } else if byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") {
                finish()
            } else {
                word = (word ?? []) + [byte]
            }
        }
        finish()
        return words
    }

    /// The assignments of an environment file (systemd.exec(5), `EnvironmentFile=`): single quotes
    /// hold what they have as it is; within double quotes a backslash is itself but before `"`,
    /// `\`, a backquote, `$` and a line's end.
    static func environment(_ text: String) -> [(name: String, value: String)] {
        var result: [(String, String)] = []
        let lines = text.replacing("\r\n", with: "\n").replacing("\\\n", with: "")
        for line in lines.split(separator: "\n") {
            let trimmed = line.trimming { $0 == " " || $0 == "\t" }
            guard !trimmed.hasPrefix("#"), !trimmed.hasPrefix(";"), let equals = trimmed.firstIndex(of: "=") else {
                continue
            }
            let name = trimmed[..<equals].trimming { $0 == " " }
            guard name.first.map({ $0.isLetter || $0 == "_" }) == true,
                name.allSatisfy({ $0.isLetter || $0.isNumber || $0 == "_" })
            else { continue }
            result.append(
                (name, unquoted(trimmed[trimmed.index(after: equals)...].trimming { $0 == " " || $0 == "\t" })))
        }
        return result
    }

    private static func unquoted(_ text: String) -> String {
        var value = ""
        var quote: Character?
        var rest = text[...]
        while let character = rest.popFirst() {
            switch (character, quote) {
            case ("\\", nil): if let next = rest.popFirst() { value.append(next) }
            case ("\\", "\""):
                if let next = rest.first, "\"\\`$".contains(next) {
                    value.append(rest.removeFirst())
                } else {
                    value.append(character)
                }
            case ("\"", nil), ("'", nil): quote = character
            case (_, let open?) where character == open: quote = nil
            default: value.append(character)
            }
        }
        return value
    }
}
