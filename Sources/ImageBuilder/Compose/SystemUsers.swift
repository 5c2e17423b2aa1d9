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

    /// Reads the files of a tree: one in /etc takes the place of one with the same name in /usr/lib, and /dev/null there
    /// masks it.
    init(_ tree: Tree) throws {
        for (path, text) in try ConfigurationFiles.read("sysusers.d", tree) {
            for line in text.split(separator: "\n") where !line.isEmpty && !line.hasPrefix("#") {
                try add(ConfigurationFiles.words(line), path: path, line: String(line), tree)
            }
        }
    }

    private mutating func add(_ words: [String], path: String, line: String, _ tree: Tree) throws {
        func failure(_ message: String) -> BuildFailure { BuildFailure("/\(path): \(message): \(line)") }
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
            return (tree[PackageTree.canonical(String(word.dropFirst()))].map { Int($0.uid) }, nil)
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
    /// The files of `/usr/lib/NAME` and `/etc/NAME` in the order of their names, without masked ones.
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

    /// Splits a line at blanks; quotes hold words together, a backslash takes the next character as it is.
    static func words(_ line: some StringProtocol) -> [String] {
        var words: [String] = []
        var word: String?
        var quote: Character?
        var escaped = false
        for character in line {
            if escaped {
                word = (word ?? "") + ConfigurationFiles.unescaped(character)
                escaped = false
            } else if character == "\\" {
                escaped = true
            } else if let open = quote {
                if character == open { quote = nil } else { word = (word ?? "") + String(character) }
            } else if character == "\"" || character == "'" {
                quote = character
                word = word ?? ""
            } else if character == " " || character == "\t" {
                if let done = word { words.append(done) }
                word = nil
            } else {
                word = (word ?? "") + String(character)
            }
        }
        return words + (word.map { [$0] } ?? [])
    }

    private static func unescaped(_ character: Character) -> String {
        switch character {
        case "n": "\n"
        case "t": "\t"
        default: String(character)
        }
    }

    /// ``expanded(_:further:)`` with the specifiers that all files have.
    static func expanded(_ text: String) -> String? { expanded(text, further: [:]) }

    /// A text with its specifiers replaced; nil where one is known on a running system only (the machine's id, the host's
    /// name, the kernel's release).
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
