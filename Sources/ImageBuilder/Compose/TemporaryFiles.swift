import Files

/// What tmpfiles.d(5) files and the directories of systemd's service units (systemd.exec(5),
/// `RuntimeDirectory=`) have a system make when it boots.
///
/// The builder puts it into the image: below /usr and /etc it is there; PID 1 copies what is below
/// /run, /tmp and /var into the memory file systems that it mounts there.
struct TemporaryFiles {
    private(set) var remarks: [String] = []
    /// Paths that a line makes already: of two the first counts, the files being in the order of
    /// their names.
    private var made: Set<String> = []
    private let users: Users
    private let tree: Tree
    private(set) var result: Tree

    /// - Parameters:
    ///   - units: those of the tree.
    ///   - services: those of the definition that are taken from units.
    init(_ tree: Tree, users: Users, units: SystemdUnits, services: [Composer.UnitService]) throws {
        self.tree = tree
        self.users = users
        result = tree
        for (path, text) in try ConfigurationFiles.read("tmpfiles.d", tree) {
            for line in text.split(separator: "\n") where !line.isEmpty && !line.hasPrefix("#") {
                guard let words = ConfigurationFiles.fields(line, most: 6, escapes: true) else {
                    remarks.append("/\(path): not done at boot, since an escape or a quote is invalid: \(line)")
                    continue
                }
                try apply(words, path: path)
            }
        }
        try applyUnits(units, services)
    }

    // MARK: - tmpfiles.d

    private mutating func apply(_ words: [String], path file: String) throws {
        guard words.count >= 2, let type = words[0].first else { return }
        func word(_ i: Int) -> String? { words.count > i && words[i] != "-" ? words[i] : nil }
        let modifiers = words[0].dropFirst()
        guard let path = ConfigurationFiles.expanded(words[1]), path.hasPrefix("/") else {
            remarks.append("/\(file): \(words[1]) has a specifier that is known on a running system only")
            return
        }
        let target = PackageTree.canonical(Self.resolved(String(path.dropFirst())))
        if ["proc/", "sys/", "dev/"].contains(where: { target.hasPrefix($0) }) {
            if "wcbpa".contains(type) { remarks.append("/\(file): \(type) \(path) is not done at boot") }
            return
        }
        guard let attributes = attributes(word(2), word(3), word(4), file: file, path: path) else { return }
        // What follows the age is one argument, blanks and quotes included.
        var content: [UInt8] = []
        if let raw = word(6), "fFLC".contains(type) {
            guard let bytes = Self.argument(raw) else {
                remarks.append("/\(file): \(path): an escape or a specifier is invalid or unknown: \(raw)")
                return
            }
            content = bytes
        }
        let argument = content.isEmpty ? nil : String(decoding: content, as: UTF8.self)
        if "dDvqQfFLC".contains(type), !made.insert(target).inserted { return }
        switch type {
        case "d", "D", "v", "q", "Q": directory(target, attributes, origin: file)
        case "e", "z", "m": for match in matches(target) { adjust(match, attributes) }
        case "Z":
            for match in matches(target) {
                adjust(match, attributes)
                for below in result.entries.keys where below.hasPrefix(match + "/") { adjust(below, attributes) }
            }
        case "f", "F":
            if result[target] == nil || modifiers.contains("+") || type == "F" {
                file_(target, content, attributes, origin: file)
            }
        case "L":
            let link = argument ?? "/usr/share/factory" + path
            if modifiers.contains("?"), result[PackageTree.canonical(String(link.dropFirst()))] == nil { return }
            if result[target] == nil || modifiers.contains("+") {
                result.addParents(of: target, origin: Self.origin(file))
                result[target] = TreeEntry(.symbolicLink(target: link), mode: 0o777, origin: Self.origin(file))
            }
        case "C":
            if result[target] == nil || modifiers.contains("+") {
                copy(from: String((argument ?? "/usr/share/factory" + path).dropFirst()), to: target, attributes, file)
            }
        // They clean up, lock or label what is there while the system runs: the memory file systems
        // start empty.
        case "x", "X", "r", "R", "h", "H", "t", "T", "a", "A": break
        default: remarks.append("/\(file): \(words[0]) \(path) is not done at boot")
        }
    }

    /// Escapes are replaced before specifiers, as systemd-tmpfiles does; nil for one that is not
    /// known.
    private static func argument(_ text: String) -> [UInt8]? {
        guard let bytes = ConfigurationFiles.unescaped(text) else { return nil }
        if !bytes.contains(UInt8(ascii: "%")) { return bytes }
        return ConfigurationFiles.expanded(String(decoding: bytes, as: UTF8.self)).map { Array($0.utf8) }
    }

    private struct Attributes {
        var mode: UInt32?
        var uid: UInt32?
        var gid: UInt32?
    }

    /// nil where a name is unknown: systemd-tmpfiles fails that line, too.
    private mutating func attributes(
        _ mode: String?, _ user: String?, _ group: String?, file: String, path: String
    ) -> Attributes? {
        var attributes = Attributes()
        if let mode { attributes.mode = UInt32(mode.filter { $0 != "~" && $0 != ":" }, radix: 8) }
        if let user = user.map({ $0.filter { $0 != ":" } }).flatMap(ConfigurationFiles.expanded) {
            attributes.uid = users.uid(user)
            if attributes.uid == nil {
                remarks.append("/\(file): \(path): there is no user \(user) in the image")
                return nil
            }
        }
        if let group = group.map({ $0.filter { $0 != ":" } }).flatMap(ConfigurationFiles.expanded) {
            attributes.gid = users.gid(group)
            if attributes.gid == nil {
                remarks.append("/\(file): \(path): there is no group \(group) in the image")
                return nil
            }
        }
        return attributes
    }

    private static func origin(_ file: String) -> String { "(\(FileSystem.name(of: file)))" }

    /// /var/run and /var/lock are links to /run and /run/lock.
    private static func resolved(_ path: String) -> String {
        var path = path.split(separator: "/").joined(separator: "/")
        if path == "var/run" || path.hasPrefix("var/run/") { path = "run" + path.dropFirst("var/run".count) }
        if path == "var/lock" || path.hasPrefix("var/lock/") { path = "run/lock" + path.dropFirst("var/lock".count) }
        return path
    }

    private func matches(_ path: String) -> [String] {
        guard path.contains("*") || path.contains("?"), let pattern = PathPattern("/" + path) else {
            return result[path] == nil ? [] : [path]
        }
        return result.entries.keys.filter(pattern.matches)
    }

    private mutating func adjust(_ path: String, _ attributes: Attributes) {
        guard var entry = result[path] else { return }
        if case .symbolicLink = entry.kind { return }
        if let mode = attributes.mode { entry.mode = mode }
        if let uid = attributes.uid { entry.uid = uid }
        if let gid = attributes.gid { entry.gid = gid }
        result[path] = entry
    }

    private mutating func directory(_ path: String, _ attributes: Attributes, origin file: String) {
        if result[path] == nil {
            result.addParents(of: path, origin: Self.origin(file))
            result[path] = TreeEntry(.directory, mode: 0o755, origin: Self.origin(file))
        }
        adjust(path, attributes)
    }

    private mutating func file_(_ path: String, _ bytes: [UInt8], _ attributes: Attributes, origin file: String) {
        result.addParents(of: path, origin: Self.origin(file))
        result[path] = TreeEntry(
            .file(Content(bytes)), mode: attributes.mode ?? 0o644, uid: attributes.uid ?? 0, gid: attributes.gid ?? 0,
            origin: Self.origin(file))
    }

    private mutating func copy(from source: String, to target: String, _ attributes: Attributes, _ file: String) {
        let source = PackageTree.canonical(source)
        guard var entry = result[source] else {
            remarks.append("/\(file): there is no /\(source) to copy to /\(target)")
            return
        }
        if case .hardLink(let path) = entry.kind, let original = result[path] { entry = original }
        result.addParents(of: target, origin: Self.origin(file))
        result[target] = entry
        adjust(target, attributes)
        for below in result.entries.keys where below.hasPrefix(source + "/") {
            result[target + below.dropFirst(source.count)] = result[below]
        }
    }

    // MARK: - Directories of service units

    private mutating func applyUnits(_ units: SystemdUnits, _ services: [Composer.UnitService]) throws {
        // The definition's first: an instance of a template, and a service with another user, are
        // known by them only.
        for service in services { makeDirectories(service.unit, user: service.user, group: service.group) }
        for name in units.names where !name.hasSuffix("@.service") {
            guard let unit = try units.unit(name) else { continue }
            makeDirectories(unit, user: unit.user ?? "root", group: unit.value("Group").flatMap(unit.expanded))
        }
    }

    private mutating func makeDirectories(_ unit: SystemdUnit, user: String, group: String?) {
        // A dynamic user is in the image only where the definition starts its service.
        guard let uid = users.uid(user), let gid = group.map({ users.gid($0) }) ?? users.primaryGroup(of: user) ?? uid
        else { return }
        for item in unit.directories where result[item.path] == nil {
            directory(item.path, Attributes(mode: item.mode, uid: uid, gid: gid), origin: unit.path)
        }
    }
}
