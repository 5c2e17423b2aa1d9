import Digests
import Documents
import Files

/// One .deb of a lock.
public struct LockedPackage: Sendable, Hashable {
    /// The archive of .debs that lie beside the definition.
    static let ownArchive = "debs"

    public var name: String
    public var version: String
    public var architecture: String
    /// Bytes of the .deb.
    public var size: Int
    public var digest: Digest
    /// Debian's `main` or `security`, `debs` for local .debs, or the name of one of the
    /// definition's `archives:`.
    public var archive: String
    /// The path in the archive, such as `pool/main/b/bash/bash_5.2.37-2_amd64.deb`.
    public var path: String

    /// The URL of a line of `apt-get --print-uris`, as ``PackageSource/canonical(_:)`` gives it.
    static func url(_ printed: some StringProtocol) -> String {
        PackageSource.canonical(String(printed.prefix { $0 != " " }.dropFirst().dropLast()))
    }

    /// Parses a line of `apt-get --print-uris`: `'URL' FILE SIZE SHA256:DIGEST`.
    ///
    /// - Returns: nil for any other line, and for a URL that is not of `sources`. Of
    ///   several sources with that URL it takes the first.
    init?(printed line: some StringProtocol, sources: [PackageSource]) {
        let fields = line.split(separator: " ")
        guard fields.count >= 4, let size = Int(fields[2]), fields[3].hasPrefix("SHA256:"),
            let digest = Digest(hex: fields[3].dropFirst(7))
        else { return nil }
        let url = Self.url(line)
        let parts = Substring(fields[1]).replacingSuffix(".deb").split(separator: "_").map(String.init)
        let places = sources.flatMap { source in source.urls.map { (source, PackageSource.canonical($0)) } }
        guard parts.count == 3, let (source, base) = places.first(where: { url.hasPrefix($0.1 + "/") }) else {
            return nil
        }
        name = parts[0]
        version = Self.unescaped(parts[1])
        architecture = parts[2]
        self.size = size
        self.digest = digest
        archive = source.name
        var path = Self.unescaped(String(url.dropFirst(base.count + 1)))
        while path.hasPrefix("./") { path = String(path.dropFirst(2)) }
        self.path = source.paths[path] ?? path
    }

    /// Decodes percent-encoding. apt also encodes characters that are allowed in a URL.
    private static func unescaped(_ text: String) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%"), rest.count >= 2,
                let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16)
            {
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    public init(
        name: String, version: String, architecture: String, size: Int, digest: Digest, archive: String, path: String
    ) {
        self.name = name
        self.version = version
        self.architecture = architecture
        self.size = size
        self.digest = digest
        self.archive = archive
        self.path = path
    }
}

/// `images/NAME.lock`: which .debs an image is made of, and the numeric ids of its users.
public struct Lock: Sendable, Hashable {
    /// The requested packages by section. The lock matches a definition with the same requests.
    public var requests: [String: [String]] = [:]
    /// The `Date` of each suite's InRelease file.
    public var dates: [String: String] = [:]
    /// Packages by the profile's name; `tools` for the programs that run on the host.
    public var sections: [String: [LockedPackage]] = [:]
    /// SHA-256 of the effects file that was written with the lock, in hexadecimal digits.
    public var effects = ""
    /// Numeric ids by name. A name that is no longer used keeps its number: /data outlives
    /// releases.
    public var users: [String: Int] = [:]
    public var groups: [String: Int] = [:]

    public init() {}

    /// The section of the packages whose programs write the image on the host.
    public static let tools = "tools"
    /// The section of the packages that are installed in the reference root only: see ``Effects``.
    public static let reference = "reference"

    /// All packages, each once, sorted.
    public var packages: [LockedPackage] {
        Set(sections.values.joined()).sorted { ($0.name, $0.version) < ($1.name, $1.version) }
    }

    /// The digest of the requests.
    var requestDigest: Digest {
        SHA256.hash(Array(requests.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)\n" }.joined().utf8))
    }

    /// The digests of all packages of the locks in a folder.
    public static func digests(in folder: String) throws -> Set<Digest> {
        guard FileSystem.exists(folder) else {
            throw BuildFailure(
                "there is no folder \(folder), whose locks list the packages to keep", hint: "set it with --images")
        }
        let locks = try FileSystem.list(folder).filter { $0.hasSuffix(".lock") }
        return try locks.reduce(into: []) { digests, name in
            digests.formUnion((try read("\(folder)/\(name)")?.packages ?? []).map(\.digest))
        }
    }

    // MARK: - The file

    /// The file's text: YAML, sorted, one line per package.
    public var text: String {
        var text = """
            # Written by "vcpe lock": which Debian packages the image is made of. Commit it, don't edit it.
            definition: \(requestDigest)
            effects: \(effects.isEmpty ? "none" : effects)

            """
        func list(_ name: String, _ body: [String]) {
            text += "\(name):" + (body.isEmpty ? " {}\n" : "\n" + body.map { "  \($0)\n" }.joined())
        }
        func quoted(_ text: String) -> String { JSON.text(text).line }
        list("archive-dates", dates.sorted { $0.key < $1.key }.map { "\($0.key): \(quoted($0.value))" })
        list(
            "requests",
            requests.sorted { $0.key < $1.key }.map { "\($0.key): [\($0.value.map(quoted).joined(separator: ", "))]" })
        list("users", users.sorted { ($0.value, $0.key) < ($1.value, $1.key) }.map { "\(quoted($0.key)): \($0.value)" })
        list("groups", groups.sorted { ($0.value, $0.key) < ($1.value, $1.key) }.map { "\($0.key): \($0.value)" })
        text += "packages:\n"
        for (section, packages) in sections.sorted(by: { $0.key < $1.key }) {
            text += "  \(section):\n"
            for package in packages {
                text +=
                    "  - {name: \(package.name), version: \(quoted(package.version)), architecture: \(package.architecture), "
                    + "size: \(package.size), sha256: \(package.digest), archive: \(quoted(package.archive)), "
                    + "path: \(quoted(package.path))}\n"
            }
        }
        return text
    }

    /// Reads a lock; nil when there is none.
    public static func read(_ path: String) throws -> Lock? {
        guard FileSystem.exists(path) else { return nil }
        let problems = ProblemList()
        let node = try YAML.read(try FileSystem.read(path), file: path)
        let lock = shape.read(node, path: "", into: problems)
        try problems.throwIfAny()
        guard let lock else { throw InvalidDocument(problems.problems) }
        return lock
    }

    private static var shape: Shape<Lock> {
        .mapping("a lock") { fields in
            let digest = Shape<Digest>.scalar("64 hexadecimal digits") { Digest(hex: $0.text) }
            let definition = fields.required("definition", digest)
            let ids = Shape.dictionary(.text, .integer(0...65_533))
            var lock = Lock()
            lock.effects = fields.required("effects", .text) ?? ""
            lock.dates = Dictionary(
                (fields.required("archive-dates", .dictionary(.text, .text)) ?? []).map { ($0.key, $0.value) }
            ) { $1 }
            lock.requests = Dictionary(
                (fields.required("requests", .dictionary(.text, .list(of: .text))) ?? []).map { ($0.key, $0.value) }
            ) { $1 }
            lock.users = Dictionary((fields.required("users", ids) ?? []).map { ($0.key, $0.value) }) { $1 }
            lock.groups = Dictionary((fields.required("groups", ids) ?? []).map { ($0.key, $0.value) }) { $1 }
            let package = Shape<LockedPackage>.mapping("a package") { fields in
                let name = fields.required("name", .text)
                let version = fields.required("version", .text)
                let architecture = fields.required("architecture", .text)
                let size = fields.required("size", .integer(1...(1 << 40)))
                let sha256 = fields.required("sha256", digest)
                let archive = fields.required("archive", .text)
                let path = fields.required(
                    "path", .text("a path within the archive") { !$0.hasPrefix("/") && !$0.contains("..") })
                guard let name, let version, let architecture, let size, let sha256, let archive, let path else {
                    return nil
                }
                return LockedPackage(
                    name: name, version: version, architecture: architecture, size: size, digest: sha256,
                    archive: archive, path: path)
            }
            lock.sections = Dictionary(
                (fields.required("packages", .dictionary(.text, .list(of: package))) ?? []).map { ($0.key, $0.value) }
            ) { $1 }
            if let definition, definition != lock.requestDigest {
                fields.problems.add(
                    fields.node, "definition", "the digest does not match the requests: the file was edited by hand",
                    hint: "restore the file, or remove it and run vcpe lock NAME (system users may get other numbers)")
            }
            return lock
        }
    }

    // MARK: - Comparing

    /// The changes from `old`, section by section.
    func changes(from old: Lock) -> LockChanges {
        var changes = LockChanges()
        for section in Set(sections.keys).union(old.sections.keys).sorted() {
            let before = Dictionary((old.sections[section] ?? []).map { ($0.name, $0) }) { $1 }
            let after = Dictionary((sections[section] ?? []).map { ($0.name, $0) }) { $1 }
            for name in Set(before.keys).union(after.keys).sorted() where before[name] != after[name] {
                changes.packages.append(
                    .init(section: section, name: name, from: before[name]?.version, to: after[name]?.version))
            }
        }
        for (name, id) in users.sorted(by: { $0.key < $1.key }) where old.users[name] != id {
            changes.users.append(.init(user: name, number: id))
        }
        return changes
    }
}

extension Substring {
    /// Without `suffix` at its end.
    fileprivate func replacingSuffix(_ suffix: String) -> Substring {
        hasSuffix(suffix) ? dropLast(suffix.count) : self
    }
}
