import Files

/// The files of packages laid into one tree as dpkg(1) unpacks them: no script runs.
public struct PackageTree {
    /// A path that dpkg-divert(1) moves for all packages but one.
    public struct Diversion: Sendable, Hashable {
        /// The package whose file keeps the path; nil for a local diversion.
        var package: String?
        /// Without a leading slash.
        var path: String
        var to: String
    }

    /// Links of the merged /usr: a package that still writes below one of these means the directory in /usr.
    static let merged = ["bin", "sbin", "lib", "lib64"]

    private(set) var tree = Tree()
    private let diversions: [Diversion]
    private let packages: [String: UnpackedPackage]

    /// - Throws: ``BuildFailure`` where two packages have one path and neither replaces the other.
    init(_ packages: [UnpackedPackage], diversions: [Diversion] = []) throws {
        self.diversions = diversions
        self.packages = Dictionary(packages.map { ($0.package.name, $0) }) { $1 }
        for package in packages.sorted(by: { $0.package.name < $1.package.name }) { try add(package) }
    }

    static func canonical(_ path: String) -> String {
        guard let slash = path.firstIndex(of: "/"), merged.contains(String(path[..<slash])) else { return path }
        return "usr/" + path
    }

    private mutating func add(_ package: UnpackedPackage) throws {
        let name = package.package.name
        for item in package.entries where !item.path.isEmpty {
            var entry = item.entry
            var path = try resolved(Self.canonical(item.path), package: name)
            // A diversion moves the file; its path remains free for the package that diverts.
            if let diversion = diversions.first(where: { $0.path == path && $0.package != name }) {
                path = diversion.to
            }
            if case .hardLink(let target) = entry.kind {
                let target = Self.canonical(target)
                let moved = diversions.first { $0.path == target && $0.package != name }?.to
                entry.kind = .hardLink(path: try resolved(moved ?? target, package: name))
            }
            // A directory where the merged link is means the link.
            if Self.merged.contains(path), entry.kind == .directory { continue }
            if let other = tree[path] {
                if other.kind == .directory, entry.kind == .directory { continue }
                // dpkg follows a link where another package ships the directory, and keeps a directory for a link.
                if entry.kind == .directory, case .symbolicLink = other.kind { continue }
                if other.kind == .directory, case .symbolicLink = entry.kind { continue }
                if replaces(other.origin, name) { continue }
                guard replaces(name, other.origin) else {
                    let both =
                        other.origin == name
                        ? "is twice in \(name)" : "is in \(other.origin) and in \(name), and neither replaces the other"
                    throw BuildFailure("/\(path) \(both)", hint: "take one of the two out of packages:")
                }
            }
            tree.addParents(of: path, origin: name)
            tree[path] = entry
        }
    }

    /// The path with links to directories followed, as open(2) follows them.
    private func resolved(_ path: String, package: String) throws -> String {
        var parts = path.split(separator: "/").map(String.init)
        var followed = 0
        var index = 0
        while index < parts.count - 1 {
            let above = parts[...index].joined(separator: "/")
            if let entry = tree[above] {
                switch entry.kind {
                case .directory: break
                case .symbolicLink(let target):
                    followed += 1
                    guard followed < 40 else {
                        throw BuildFailure(
                            "/\(path) of \(package): its directories are links in a circle",
                            hint: "take the package or the tree that has the links out of the definition")
                    }
                    let folder = FileSystem.parent(of: above) ?? ""
                    parts =
                        (NamePattern.joined(folder, target).split(separator: "/").map(String.init))
                        + parts[(index + 1)...]
                    index = 0
                    continue
                default:
                    throw BuildFailure(
                        "/\(path) is in \(package), and /\(above) is a file of \(entry.origin)",
                        hint: "take one of the two out of packages:")
                }
            }
            index += 1
        }
        return parts.joined(separator: "/")
    }

    /// Whether a package's Replaces names another at its version (Debian Policy 7.6.1).
    private func replaces(_ name: String, _ other: String) -> Bool {
        guard let package = packages[name], let replaced = packages[other] else { return false }
        return (package.fields["Replaces"] ?? "").split(separator: ",").contains { relation in
            let words = relation.split(whereSeparator: { " ()".contains($0) }).map(String.init)
            guard let named = words.first?.split(separator: ":").first, named == other else { return false }
            guard words.count == 3 else { return true }
            return DebianVersion(replaced.package.version).satisfies(words[1], DebianVersion(words[2]))
        }
    }
}
