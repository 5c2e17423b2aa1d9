import Digests
import Files
import PluginKit

/// The users and groups of an image: Debian's fixed ones (base-passwd), those of sysusers.d(5), those of the definition.
struct Users {
    struct User: Hashable {
        var uid: Int
        var gid: Int
        var comment: String
        var home: String
        var shell: String
    }

    private(set) var users: [String: User] = [:]
    private(set) var groups: [String: Int] = [:]
    private var members: [String: Set<String>] = [:]

    /// Numbers given to names that have none of their own, from the lock or new.
    private(set) var allocatedUsers: [String: Int]
    private(set) var allocatedGroups: [String: Int]
    /// Names that had no number in the lock.
    private(set) var fresh: [String] = []

    /// System users are numbered from here up (Debian Policy 9.2.2).
    private static let range = 100...999

    init(lock: Lock) {
        allocatedUsers = lock.users
        allocatedGroups = lock.groups
    }

    /// Reads all that a tree declares.
    mutating func collect(from tree: Tree, definition: Definition) throws {
        for line in try lines("usr/share/base-passwd/group.master", in: tree) {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            if fields.count >= 3, let gid = Int(fields[2]) { groups[fields[0]] = gid }
        }
        for line in try lines("usr/share/base-passwd/passwd.master", in: tree) {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            guard fields.count == 7, let uid = Int(fields[2]), let gid = Int(fields[3]) else { continue }
            users[fields[0]] = User(uid: uid, gid: gid, comment: fields[4], home: fields[5], shell: fields[6])
        }
        if users["root"] == nil {
            users["root"] = User(uid: 0, gid: 0, comment: "root", home: "/root", shell: "/bin/sh")
            groups["root"] = 0
        }
        users["root"]?.shell = tree["usr/bin/bash"] == nil ? "/bin/sh" : "/bin/bash"
        // The engine knows by them who may ask it what.
        for role in Role.allCases where !definition.plugins.isEmpty { groups[role.group.name] = role.group.number }
        let folder = "usr/lib/sysusers.d/"
        for path in tree.sortedPaths where path.hasPrefix(folder) && path.hasSuffix(".conf") {
            for line in try lines(path, in: tree) { try sysusers(line, path: path) }
        }
        for (name, home) in definition.users.sorted(by: { $0.key < $1.key }) where users[name] == nil {
            try add(name, id: "-", comment: "", home: home, shell: "/usr/sbin/nologin")
        }
    }

    private func lines(_ path: String, in tree: Tree) throws -> [String] {
        guard case .file(let content)? = tree[path]?.kind else { return [] }
        return String(decoding: try content.read(), as: UTF8.self).split(separator: "\n").map(String.init).filter {
            !$0.isEmpty && !$0.hasPrefix("#")
        }
    }

    private mutating func sysusers(_ line: String, path: String) throws {
        let words = Self.words(line)
        guard words.count >= 2 else { return }
        func word(_ i: Int) -> String { words.count > i ? words[i] : "-" }
        switch words[0].prefix(1) {
        case "u":
            if users[words[1]] == nil {
                try add(
                    words[1], id: word(2), comment: word(3) == "-" ? "" : word(3),
                    home: word(4) == "-" ? "/" : word(4), shell: word(5) == "-" ? "/usr/sbin/nologin" : word(5))
            }
        case "g": if groups[words[1]] == nil { groups[words[1]] = try number(words[1], word(2), group: true) }
        case "m":
            if groups[word(2)] == nil { groups[word(2)] = try number(word(2), "-", group: true) }
            members[word(2), default: []].insert(words[1])
        case "r": break
        default: throw BuildFailure("/\(path): the line type \(words[0]) is not known: \(line)")
        }
    }

    private mutating func add(_ name: String, id: String, comment: String, home: String, shell: String) throws {
        let parts = id.split(separator: ":").map(String.init)
        let gid: Int
        if parts.count == 2, let known = groups[parts[1]] ?? Int(parts[1]) {
            gid = known
        } else {
            gid = try groups[name] ?? number(name, parts.first ?? "-", group: true)
            groups[name] = gid
        }
        users[name] = User(
            uid: try number(name, parts.first ?? "-", group: false), gid: gid, comment: comment, home: home,
            shell: shell)
    }

    private mutating func number(_ name: String, _ wish: String, group: Bool) throws -> Int {
        if let id = Int(wish) { return id }
        if let id = (group ? allocatedGroups : allocatedUsers)[name] { return id }
        // A name's user and group share a number, and neither takes one that any name ever had.
        let taken = Set(allocatedUsers.values).union(allocatedGroups.values).union(groups.values).union(
            users.values.map(\.uid))
        let twin = (group ? allocatedUsers : allocatedGroups)[name]
        guard let id = twin ?? Self.range.first(where: { !taken.contains($0) }) else {
            throw BuildFailure("there is no number left for the system user \(name) in \(Self.range)")
        }
        if group { allocatedGroups[name] = id } else { allocatedUsers[name] = id }
        fresh.append(name)
        return id
    }

    /// Splits a line of sysusers.d at blanks; double quotes hold words together.
    private static func words(_ line: String) -> [String] {
        var words: [String] = []
        var word: String?
        var quoted = false
        for character in line {
            if character == "\"" {
                quoted.toggle()
                word = word ?? ""
            } else if !quoted, character == " " || character == "\t" {
                if let done = word { words.append(done) }
                word = nil
            } else {
                word = (word ?? "") + String(character)
            }
        }
        return words + (word.map { [$0] } ?? [])
    }

    /// Adds /etc/passwd, group, shadow and gshadow. No password fits: nobody logs in by one.
    func write(to tree: inout Tree) {
        let sorted = users.sorted { ($0.value.uid, $0.key) < ($1.value.uid, $1.key) }
        let groups = groups.sorted { ($0.value, $0.key) < ($1.value, $1.key) }
        func members(_ group: String) -> String { (self.members[group] ?? []).sorted().joined(separator: ",") }
        let files: [(String, UInt32, [String])] = [
            (
                "passwd", 0o644,
                sorted.map {
                    "\($0.key):x:\($0.value.uid):\($0.value.gid):\($0.value.comment):\($0.value.home):\($0.value.shell)"
                }
            ),
            ("group", 0o644, groups.map { "\($0.key):x:\($0.value):\(members($0.key))" }),
            ("shadow", 0o640, sorted.map { "\($0.key):!*:::::::" }),
            ("gshadow", 0o640, groups.map { "\($0.key):!::\(members($0.key))" }),
        ]
        for (name, mode, lines) in files {
            tree["etc/\(name)"] = TreeEntry(
                .file(Content(lines.joined(separator: "\n") + "\n")), mode: mode, uid: 0,
                gid: mode == 0o640 ? gid("shadow") ?? 0 : 0, origin: Composer.origin)
        }
    }

    func uid(_ name: String) -> UInt32? { UInt32(name) ?? users[name].map { UInt32($0.uid) } }
    func gid(_ name: String) -> UInt32? { UInt32(name) ?? groups[name].map { UInt32($0) } }
}
