import Documents
import Files
import Transfers

/// How a definition names what it takes from where: packages, archives, own .debs and trees.
extension Definition {
    /// An item of a list that a later item can take out again.
    struct Listed: Sendable {
        var item: Located<String>
        /// Written as `-NAME`.
        var isRemoval: Bool
    }

    static func listed(_ name: Shape<String>) -> Shape<Listed> {
        Shape("\(name.allowed), or -NAME, which takes one out") { node, path, problems in
            guard case .scalar(let scalar) = node.value, scalar.text.hasPrefix("-") else {
                return name.located.read(node, path: path, into: problems).map { Listed(item: $0, isRemoval: false) }
            }
            let bare = Node.Scalar(text: String(scalar.text.dropFirst()), isPlain: false)
            let rest = Node(value: .scalar(bare), position: node.position)
            return name.located.read(rest, path: path, into: problems).map { Listed(item: $0, isRemoval: true) }
        }
    }

    /// What remains of a list, read from its start: the last word on a name counts.
    static func remaining(_ list: [Listed]) -> (taken: [Located<String>], removed: [Located<String>]) {
        var taken: [Located<String>] = []
        var removed: [Located<String>] = []
        for entry in list {
            let name = entry.item.value
            if entry.isRemoval {
                taken.removeAll { $0.value == name }
                removed.append(entry.item)
            } else {
                removed.removeAll { $0.value == name }
                taken.append(entry.item)
            }
        }
        return (taken, removed)
    }

    /// Names that the lock's rows use for Debian's own archives and for own .debs.
    static let reservedArchives = ["main", "security", LockedPackage.ownArchive]

    static func archives(_ fields: inout Fields) -> [Archive] {
        let archives = fields.optional("archives", .list(of: archive)) ?? []
        var seen = Set(reservedArchives)
        for archive in archives where !seen.insert(archive.name).inserted {
            fields.problems.add(
                Problem(
                    position: archive.position, path: "archives",
                    message: "the archive's name \"\(archive.name)\" is taken",
                    hint: "give it a name: of its own; \(reservedArchives.joined(separator: ", ")) are reserved"))
        }
        return archives
    }

    private static var archive: Shape<Archive> {
        .mapping("uris, suites, components, signed-by, pin, name") { fields in
            let position = fields.node.position
            let uris = fields.optional("uris", .list(of: archiveURL)) ?? []
            let suites = fields.required("suites", .list(of: word))
            let components = fields.optional("components", .list(of: word))
            let signedBy = fields.optional("signed-by", hostPath.located)
            let name = fields.optional("name", word)
            let single = Shape<Archive.Pin>.mapping("priority, and packages: a list of names and patterns") { fields in
                let packages = fields.optional("packages", .list(of: word)) ?? []
                let priority = fields.required("priority", .integer(-1...1001))
                return priority.map { Archive.Pin(packages: packages, priority: $0) }
            }
            let pin = Shape<[Archive.Pin]>("a priority, or a list of priority and packages") { node, path, problems in
                switch node.value {
                case .scalar:
                    return Shape.integer(-1...1001).read(node, path: path, into: problems)
                        .map { [Archive.Pin(packages: [], priority: $0)] }
                case .mapping: return single.read(node, path: path, into: problems).map { [$0] }
                case .sequence: return Shape.list(of: single).read(node, path: path, into: problems)
                }
            }
            let pins = fields.optional("pin", pin) ?? []
            guard let suites else { return nil }
            guard let first = suites.first else {
                fields.problems.add(fields.node, fields.path + ".suites", "the list is empty", hint: "name a suite")
                return nil
            }
            let isFlat = first.hasSuffix("/")
            if isFlat, uris.isEmpty || components != nil || suites.count > 1 {
                fields.problems.add(
                    fields.node, fields.path,
                    "a flat repository (\(first)) has uris and neither components nor more suites")
            }
            if isFlat, name == nil {
                fields.problems.add(
                    fields.node, fields.path + ".name", "the key is missing: a flat repository has no suite's name")
            }
            return Archive(
                name: name ?? first.replacing("/", with: "-"), uris: uris, suites: suites,
                components: components ?? (isFlat ? [] : ["main"]), signedBy: signedBy, pins: pins, position: position)
        }
    }

    /// A word of a sources file: neither blanks nor what a stanza gives a meaning.
    private static var word: Shape<String> {
        .text("a word without blanks and quotes") { text in
            !text.isEmpty
                && text.unicodeScalars.allSatisfy {
                    $0.value > 0x20 && $0.value < 0x7F && !"\"'\\[]".unicodeScalars.contains($0)
                }
        }
    }

    static var archiveURL: Shape<String> {
        .text("a URL of http, https or file, without user and password") { text in
            ["http://", "https://", "file:/"].contains { text.hasPrefix($0) } && URLUser.login(in: text) == nil
                && text.unicodeScalars.allSatisfy { $0.value > 0x20 && $0.value < 0x7F && $0 != "\"" }
        }
    }

    static var tree: Shape<OverlayTree> {
        let rule = Shape<OverlayTree.Rule>.mapping("mode, owner, group") { fields in
            let mode = fields.optional("mode", Self.mode)
            let owner = fields.optional("owner", oneLine)
            let group = fields.optional("group", oneLine)
            guard let any = PathPattern("/**") else { return nil }
            return OverlayTree.Rule(pattern: any, mode: mode, owner: owner, group: group)
        }
        let whole = Shape<OverlayTree>.mapping("path, and rules: modes and owners by pattern") { fields in
            let path = fields.required("path", hostPath.located)
            let pattern = Shape.text(PathPattern.shape.allowed) { PathPattern($0) != nil }
            let rules = fields.optional("rules", .dictionary(pattern, rule)) ?? []
            return path.map { path in
                OverlayTree(
                    source: path,
                    rules: rules.compactMap { entry in
                        PathPattern(entry.key).map {
                            OverlayTree.Rule(
                                pattern: $0, mode: entry.value.mode, owner: entry.value.owner, group: entry.value.group)
                        }
                    })
            }
        }
        return Shape("a directory relative to the definition's folder, or a mapping of path and rules") {
            node, path, problems in
            if case .mapping = node.value { return whole.read(node, path: path, into: problems) }
            return hostPath.located.read(node, path: path, into: problems).map { OverlayTree(source: $0, rules: []) }
        }
    }
}
