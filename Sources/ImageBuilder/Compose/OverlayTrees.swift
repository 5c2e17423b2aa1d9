import Digests
import Documents
import Files
import Glibc

extension Definition.OverlayTree {
    /// A path of the directory, relative to it.
    struct Item {
        var path: String
        var status: stat
        var kind: TreeEntry.Kind
    }

    /// Everything below the directory, sorted.
    ///
    /// - Parameter folder: the definition's.
    func items(in folder: String) throws -> [Item] {
        let name = source.value
        guard !name.hasPrefix("/"), !name.split(separator: "/").contains("..") else {
            throw InvalidDocument([
                source.problem(
                    "\"\(name)\" is outside the definition's folder", hint: "allowed is a path below \(folder)")
            ])
        }
        let root = "\(folder)/\(name)"
        var status = stat()
        guard lstat(root.trimmingSlashes, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            throw InvalidDocument([
                source.problem("\(root) is not a directory", hint: "the path is relative to \(folder)")
            ])
        }
        var items: [Item] = []
        try read(root, "", &items)
        return items
    }

    private func read(_ root: String, _ below: String, _ items: inout [Item]) throws {
        for name in try FileSystem.list(below.isEmpty ? root : "\(root)/\(below)").sorted() {
            let path = below.isEmpty ? name : "\(below)/\(name)"
            var status = stat()
            guard lstat("\(root)/\(path)", &status) == 0 else { throw SystemError("lstat", "\(root)/\(path)") }
            switch status.st_mode & S_IFMT {
            case S_IFDIR:
                items.append(Item(path: path, status: status, kind: .directory))
                try read(root, path, &items)
            case S_IFREG:
                items.append(
                    Item(path: path, status: status, kind: .file(Content(try FileSystem.read("\(root)/\(path)")))))
            case S_IFLNK:
                let target = try FileSystem.linkTarget("\(root)/\(path)")
                items.append(Item(path: path, status: status, kind: .symbolicLink(target: target)))
            default:
                throw InvalidDocument([
                    source.problem(
                        "\(root)/\(path) is neither a file, a link nor a directory",
                        hint: "an image holds neither devices nor pipes")
                ])
            }
        }
    }
}

extension Composer {
    /// Copies the definition's trees into the image. Of modes only the executable bit counts, as
    /// git keeps it; all belongs to root unless a rule says otherwise.
    mutating func addTrees(_ users: Users) throws {
        for overlay in definition.trees {
            for item in try overlay.items(in: folder) {
                let path = canonical(item.path)
                if PackageTree.merged.contains(path), item.kind == .directory { continue }
                // A directory adds to what is there.
                if item.kind != .directory { try checkProtected(path, overlay.source) }
                if let hidden = Definition.hiddenPlaces.first(where: { "/\(path)".hasPrefix($0 + "/") }) {
                    throw InvalidDocument([
                        overlay.source.problem(
                            "/\(path) is hidden on a running box by the file system that is mounted on \(hidden)")
                    ])
                }
                if let parent = FileSystem.parent(of: path), let real = result.tree.resolving(parent), real != parent {
                    throw InvalidDocument([
                        overlay.source.problem(
                            "/\(path): /\(parent) is or crosses a link of \(result.tree[parent]?.origin ?? "a package")",
                            hint: "put the file below /\(real)")
                    ])
                }
                let isExecutable = item.status.st_mode & 0o100 != 0
                var entry = TreeEntry(
                    item.kind, mode: item.kind == .directory || isExecutable ? 0o755 : 0o644,
                    origin: Self.definitionOrigin)
                if case .symbolicLink = item.kind { entry.mode = 0o777 }
                for rule in overlay.rules where rule.pattern.matches(item.path) {
                    if let mode = rule.mode { entry.mode = mode }
                    if let owner = rule.owner { entry.uid = try id(owner, users.uid(owner), overlay.source) }
                    if let group = rule.group { entry.gid = try id(group, users.gid(group), overlay.source) }
                }
                if let there = result.tree[path] {
                    // A directory that a package has keeps its owner unless a rule gives another.
                    let isRuled = overlay.rules.contains { $0.pattern.matches(item.path) }
                    if there.kind == .directory, item.kind == .directory, !isRuled { continue }
                    if (there.kind == .directory) != (item.kind == .directory) {
                        throw InvalidDocument([
                            overlay.source.problem(
                                "/\(path) is a \(there.kind == .directory ? "directory" : "file") of \(there.origin) and not one in \(overlay.source.value)"
                            )
                        ])
                    }
                }
                result.tree.detach(path)
                result.tree.addParents(of: path, origin: Self.definitionOrigin)
                result.tree[path] = entry
            }
        }
    }

    private func id(_ name: String, _ number: UInt32?, _ source: Located<String>) throws -> UInt32 {
        guard let number else {
            throw InvalidDocument([
                source.problem(
                    "there is no user or group \(name) in the image",
                    hint: "add the package that makes it, or the user to users:")
            ])
        }
        return number
    }

    /// Refuses what would leave an image that can't boot.
    ///
    /// - Parameter isReplaced: something else is put there, which may be an init of the definition's own.
    func checkProtected(_ path: String, _ place: Located<String>, isReplaced: Bool = true) throws {
        guard let reason = Self.protected(path, isReplaced: isReplaced) else { return }
        throw InvalidDocument([place.problem("/\(path) \(reason)")])
    }

    static func protected(_ path: String, isReplaced: Bool) -> String? {
        if path == "usr/sbin/init", !isReplaced { return "is PID 1's; the image boots with it only" }
        if path == "usr/lib/vcpe" || !isReplaced && path.hasPrefix("usr/lib/vcpe/") { return "belongs to vcpe" }
        if PackageTree.merged.contains(path) { return "is a link to /usr/\(path) that every program needs" }
        if path == "usr" || PackageTree.merged.map({ "usr/" + $0 }).contains(path) {
            return "holds what the image needs to boot"
        }
        return nil
    }
}

extension String {
    fileprivate var trimmingSlashes: String {
        var text = self[...]
        while text.count > 1, text.hasSuffix("/") { text = text.dropLast() }
        return String(text)
    }
}

extension Tree {
    /// The tree with further entries.
    func adding(_ more: [String: TreeEntry]) -> Tree {
        var tree = self
        for (path, entry) in more {
            tree.addParents(of: path, origin: entry.origin)
            tree[path] = entry
        }
        return tree
    }
}

extension Definition {
    /// The sysusers.d(5) and tmpfiles.d(5) files and the service units of the definition's trees
    /// and files.
    ///
    /// - Parameter folder: the definition's.
    func declarations(in folder: String) throws -> [String: TreeEntry] {
        var found: [String: TreeEntry] = [:]
        let places = [
            "usr/lib/sysusers.d/", "etc/sysusers.d/", "usr/lib/tmpfiles.d/", "etc/tmpfiles.d/",
            "usr/lib/systemd/system/", "usr/local/lib/systemd/system/", "etc/systemd/system/",
        ]
        for overlay in trees {
            for item in try overlay.items(in: folder) {
                let path = PackageTree.canonical(item.path)
                if places.contains(where: { path.hasPrefix($0) }) {
                    found[path] = TreeEntry(item.kind, mode: 0o644, origin: Composer.definitionOrigin)
                }
            }
        }
        for (path, rule) in files {
            let path = PackageTree.canonical(String(path.dropFirst()))
            guard places.contains(where: { path.hasPrefix($0) }) else { continue }
            let kind: TreeEntry.Kind? =
                switch rule.value.source {
                case .content(let text): .file(Content(text))
                // Whether it can be read, and is below the folder, is checked when the file is
                // added.
                case .path(let source): (try? FileSystem.read("\(folder)/\(source.value)")).map { .file(Content($0)) }
                case .link(let target): .symbolicLink(target: target)
                case .absent, .directory: nil
                }
            if let kind { found[path] = TreeEntry(kind, mode: 0o644, origin: Composer.definitionOrigin) }
        }
        return found
    }

    /// Digests of the host's files that the definition copies into the image, by what they are for:
    /// a step's inputs.
    ///
    /// - Parameter folder: the definition's.
    func sourceDigests(in folder: String) throws -> [String: String] {
        var digests: [String: String] = [:]
        for (path, rule) in files {
            if case .path(let source) = rule.value.source {
                let bytes = try? FileSystem.read("\(folder)/\(source.value)")
                digests["the file for \(path)"] = bytes.map { SHA256.hash($0).hex } ?? "missing"
            }
        }
        for overlay in trees {
            let lines = try overlay.items(in: folder).map { item -> String in
                let isExecutable = item.status.st_mode & 0o100 != 0
                switch item.kind {
                case .file(let content): return "\(item.path) \(isExecutable) \(content.digest)"
                case .symbolicLink(let target): return "\(item.path) -> \(target)"
                default: return item.path
                }
            }
            digests["the tree \(overlay.source.value)"] = SHA256.hash(Array(lines.joined(separator: "\n").utf8)).hex
        }
        return digests
    }
}
