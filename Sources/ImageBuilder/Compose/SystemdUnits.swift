import Files

/// The units of a tree, by their names.
struct SystemdUnits {
    /// Directories of unit files; the first that has a file wins.
    private static let folders = ["etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system"]

    private let tree: Tree
    /// Paths by the unit's name, of the first directory that has it; a link to /dev/null among them
    /// masks it.
    private var files: [String: String] = [:]
    /// Drop-ins by the unit's name and their own: one in /etc replaces one of the same name in
    /// /usr/lib.
    private var dropIns: [String: [String: String]] = [:]

    init(_ tree: Tree) {
        self.tree = tree
        for folder in Self.folders.reversed() {
            for path in tree.paths(below: folder + "/") {
                let parts = path.dropFirst(folder.count + 1).split(separator: "/").map(String.init)
                if parts.count == 1 {
                    files[parts[0]] = path
                } else if parts.count == 2, parts[0].hasSuffix(".service.d"), parts[1].hasSuffix(".conf") {
                    dropIns[String(parts[0].dropLast(2)), default: [:]][parts[1]] = path
                }
            }
        }
    }

    /// The names of the service units, templates as `NAME@.service`.
    var names: [String] { files.keys.filter { $0.hasSuffix(".service") }.sorted() }

    /// A unit by its name, by a link to it or by its `Alias=`.
    ///
    /// - Returns: nil where the tree has none of that name, or masks it.
    func unit(_ name: String) throws -> SystemdUnit? {
        if let unit = try own(name) { return unit }
        if files[name] != nil { return nil }
        for other in names where other != name {
            if let unit = try own(other), unit.aliases.contains(name) { return unit }
        }
        return nil
    }

    private func own(_ name: String) throws -> SystemdUnit? {
        let template = SystemdUnit.template(of: name)
        guard let file = files[name] ?? template.flatMap({ files[$0] }), let path = tree.resolving(file),
            let content = tree.file(path), content.count > 0
        else { return nil }
        // A link's own name and that of its target are names of one unit.
        let real = FileSystem.name(of: path)
        var texts: [String: String] = [:]
        for unit in [template, real, name].compactMap({ $0 }) {
            for (file, path) in dropIns[unit] ?? [:] {
                if let content = tree.file(path) { texts[file] = String(decoding: try content.read(), as: UTF8.self) }
            }
        }
        let socket = String(name.dropLast("service".count)) + "socket"
        return SystemdUnit(
            name, path: path, aliases: template == nil && real != name ? [real] : [], hasSocket: files[socket] != nil,
            texts: [String(decoding: try content.read(), as: UTF8.self)]
                + texts.sorted { $0.key < $1.key }.map(\.value))
    }
}
