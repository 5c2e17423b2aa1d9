import Files

/// The users and groups that sysusers.d(5) files declare.
struct SystemUsers {
    struct User {
        var name: String
        var id: Int?
        /// nil for a group of the user's own name.
        var group: String?
        var comment: String
        var home: String
        var shell: String
    }

    private(set) var groups: [(name: String, id: Int?)] = []
    private(set) var users: [User] = []
    private(set) var members: [(user: String, group: String)] = []

    /// Reads the files of a tree: one in /etc takes the place of one with the same name in
    /// /usr/lib, and /dev/null there masks it.
    init(_ tree: Tree) throws {
        for (path, text) in try ConfigurationFiles.read("sysusers.d", tree) {
            for line in text.split(separator: "\n") where !line.isEmpty && !line.hasPrefix("#") {
                guard let words = ConfigurationFiles.fields(line) else {
                    throw BuildFailure(
                        "/\(path): a quote or an escape does not end: \(line)",
                        hint: "correct the line as in sysusers.d(5)")
                }
                try add(words, path: path, line: String(line), tree)
            }
        }
    }

    private mutating func add(_ words: [String], path: String, line: String, _ tree: Tree) throws {
        func failure(_ message: String) -> BuildFailure {
            BuildFailure("/\(path): \(message): \(line)", hint: "correct the line as in sysusers.d(5)")
        }
        guard words.count >= 2 else { throw failure("a line has a type and a name") }
        func word(_ i: Int) -> String? { words.count > i && words[i] != "-" ? words[i] : nil }
        func expanded(_ text: String) throws -> String {
            guard let result = ConfigurationFiles.expanded(text) else {
                throw failure("the specifier in \(text) is known on a running system only")
            }
            return result
        }
        let name = try expanded(words[1])
        switch words[0] {
        case "u", "u!":
            let (id, group) = try ids(word(2), tree, failure)
            users.append(
                User(
                    name: name, id: id, group: group, comment: try expanded(word(3) ?? ""),
                    home: try expanded(word(4) ?? "/"), shell: try expanded(word(5) ?? "/usr/sbin/nologin")))
        case "g": groups.append((name, try ids(word(2), tree, failure).id))
        case "m":
            guard let group = word(2) else { throw failure("a line m names a user and a group") }
            members.append((name, try expanded(group)))
        // A range that numbers are taken from: the lock gives them.
        case "r": break
        default: throw failure("the type \(words[0]) is unknown; allowed are u, u!, g, m and r")
        }
    }

    /// `-`, `UID`, `UID:GID`, `UID:GROUP`, `:GROUP` or `/PATH`, whose owner it is.
    private func ids(
        _ word: String?, _ tree: Tree, _ failure: (String) -> BuildFailure
    ) throws -> (id: Int?, group: String?) {
        guard let word else { return (nil, nil) }
        if word.hasPrefix("/") {
            // systemd-sysusers takes no other name's number from a path; root's is the usual owner.
            let owner = tree[PackageTree.canonical(String(word.dropFirst()))].map { Int($0.uid) }
            return (owner == 0 ? nil : owner, nil)
        }
        let parts = word.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        let id = parts[0].isEmpty || parts[0] == "-" ? nil : Int(parts[0])
        guard parts.count <= 2, id != nil || parts[0].isEmpty || parts[0] == "-" else {
            throw failure("\(word) is neither a number, UID:GROUP, a path nor -")
        }
        return (id, parts.count == 2 ? parts[1] : nil)
    }
}

/// What sysusers.d(5) and tmpfiles.d(5) files have in common.
enum ConfigurationFiles {
    /// The files of `/usr/lib/NAME` and `/etc/NAME` in the order of their names, without masked
    /// ones.
    static func read(_ name: String, _ tree: Tree) throws -> [(path: String, text: String)] {
        var files: [String: String] = [:]
        for folder in ["usr/lib/\(name)/", "etc/\(name)/"] {
            for path in tree.paths(below: folder, suffix: ".conf") {
                files[String(path.dropFirst(folder.count))] = path
            }
        }
        return try files.sorted { $0.key < $1.key }.compactMap { _, path in
            guard case .file(let content)? = tree[path]?.kind else { return nil }
            return (path, String(decoding: try content.read(), as: UTF8.self))
        }
    }

    /// Splits a line at blanks, as systemd's extract_first_word() does. Quotes hold words together.
    ///
    /// - Parameters:
    ///   - most: words; what follows the last one is a word of its own, as it is written.
    ///   - escapes: a backslash begins a C escape, as in tmpfiles.d(5); otherwise it takes the next character as it is.
    /// - Returns: nil for an escape or a quote that does not end, and for an unknown escape.
    static func fields(_ line: some StringProtocol, most: Int = .max, escapes: Bool = false) -> [String]? {
        var words: [String] = []
        var word: [UInt8]?
        var quote: UInt8?
        var rest = Array(line.utf8)[...]
        func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
        let blanks = Array(" \t".utf8)
        while words.count < most, let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\") {
                guard let bytes = escapes ? escape(&rest) : rest.popFirst().map({ [$0] }) else { return nil }
                word = (word ?? []) + bytes
            } else if let open = quote {
                if byte == open { quote = nil } else { word = (word ?? []) + [byte] }
            } else if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") {
                quote = byte
                word = word ?? []
            } else if blanks.contains(byte) {
                if let done = word { words.append(text(done)) }
                word = nil
            } else {
                word = (word ?? []) + [byte]
            }
        }
        if quote != nil { return nil }
        if let done = word { words.append(text(done)) }
        rest = rest.drop { blanks.contains($0) }
        while let last = rest.last, blanks.contains(last) { rest = rest.dropLast() }
        return words + (rest.isEmpty ? [] : [text(Array(rest))])
    }

    /// A text with its C escapes replaced, as systemd's cunescape() does; nil for an unknown one.
    static func unescaped(_ text: String) -> [UInt8]? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte != UInt8(ascii: "\\") {
                bytes.append(byte)
            } else {
                guard let escaped = escape(&rest) else { return nil }
                bytes += escaped
            }
        }
        return bytes
    }

    /// The bytes of a C escape, without its backslash: a letter, `xNN`, `uNNNN`, `UNNNNNNNN` or
    /// three octal digits.
    static func escape(_ rest: inout ArraySlice<UInt8>) -> [UInt8]? {
        func number(_ count: Int, radix: Int) -> UInt32? {
            guard rest.count >= count else { return nil }
            defer { rest = rest.dropFirst(count) }
            let digits = String(decoding: rest.prefix(count), as: UTF8.self)
            // Not a sign, which the initializer takes as well. A string has no NUL.
            return digits.allSatisfy(\.isHexDigit) ? UInt32(digits, radix: radix).flatMap { $0 == 0 ? nil : $0 } : nil
        }
        func scalar(_ value: UInt32?) -> [UInt8]? {
            value.flatMap { Unicode.Scalar($0) }.map { Array(String(Character($0)).utf8) }
        }
        guard let letter = rest.first else { return nil }
        let plain: [Character: UInt8] = [
            "a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "s": 32, "\\": 92, "\"": 34, "'": 39,
        ]
        if let byte = plain[Character(Unicode.Scalar(letter))] {
            rest = rest.dropFirst()
            return [byte]
        }
        if (UInt8(ascii: "0")...UInt8(ascii: "7")).contains(letter) {
            return number(3, radix: 8).flatMap { UInt8(exactly: $0) }.map { [$0] }
        }
        rest = rest.dropFirst()
        switch letter {
        case UInt8(ascii: "x"): return number(2, radix: 16).map { [UInt8($0)] }
        case UInt8(ascii: "u"): return scalar(number(4, radix: 16))
        case UInt8(ascii: "U"): return scalar(number(8, radix: 16))
        default: return nil
        }
    }

    /// ``expanded(_:further:)`` with the specifiers that all files have.
    static func expanded(_ text: String) -> String? { expanded(text, further: [:]) }

    /// A text with its specifiers replaced; nil where one is known on a running system only (the
    /// machine's id, the host's name, the kernel's release).
    ///
    /// - Parameter further: values of specifiers that only some files have, or that differ there.
    static func expanded(_ text: String, further: [Character: String]) -> String? {
        guard text.contains("%") else { return text }
        let values: [Character: String] = [
            "%": "%", "t": "/run", "S": "/var/lib", "C": "/var/cache", "L": "/var/log", "T": "/tmp", "V": "/var/tmp",
            "h": "/root", "u": "root", "U": "0", "g": "root", "G": "0", "a": "x86-64", "o": "vcpe",
        ]
        var result = ""
        var rest = text[...]
        while let character = rest.popFirst() {
            guard character == "%" else {
                result.append(character)
                continue
            }
            guard let name = rest.popFirst(), let value = further[name] ?? values[name] else { return nil }
            result += value
        }
        return result
    }
}
