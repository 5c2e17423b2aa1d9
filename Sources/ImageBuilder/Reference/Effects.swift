import Digests
import Documents
import Files

/// What a package's maintainer scripts and triggers did when it was installed as Debian installs
/// it: one change each.
public enum PackageEffect: Sendable, Hashable {
    /// Where a generated file's bytes come from.
    public enum Source: Sendable, Hashable {
        /// A packaged file with the same bytes, without a leading slash.
        case copy(of: String)
        /// Packaged files, one after the other.
        case parts([String])
        /// The bytes themselves.
        case bytes([UInt8])
    }

    /// Mode and owner by names.
    public struct Attributes: Sendable, Hashable {
        public var mode: UInt32
        public var owner: String
        public var group: String
        /// As setcap(8) takes them; nil for none.
        public var capabilities: String?
    }

    case user(name: String, id: Int?, group: String, comment: String, home: String, shell: String)
    case group(name: String, id: Int?)
    case member(user: String, of: String)
    case directory(path: String, Attributes)
    case file(path: String, Attributes, Source, Digest)
    case link(path: String, target: String)
    /// Other attributes of a packaged file or directory.
    case attributes(path: String, Attributes)
    case removed(path: String)

    /// Of effects on paths.
    var path: String? {
        switch self {
        case .user, .group, .member: nil
        case .directory(let path, _), .file(let path, _, _, _), .link(let path, _), .attributes(let path, _),
            .removed(let path):
            path
        }
    }
}

/// `images/NAME.effects`: the effects of all packages of a lock, recorded in a reference root when
/// the lock was made.
public struct Effects: Sendable, Hashable {
    /// An alternative as update-alternatives(1) keeps it.
    public struct Alternative: Sendable, Hashable {
        public struct Candidate: Sendable, Hashable {
            /// Absolute.
            var path: String
            var priority: Int
            /// Absolute paths by the slave's name.
            var slaves: [String: String]
        }

        var name: String
        /// The master's link; absolute.
        var link: String
        /// The slaves' links by name; absolute.
        var slaves: [String: String]
        var candidates: [Candidate]
    }

    /// A program that lacks an interpreter or a library on Debian itself, with the same packages.
    public struct Unresolved: Sendable, Hashable {
        /// Without a leading slash.
        var path: String
        /// An absolute path, or a library's name.
        var missing: String
    }

    /// Names the packages that were installed.
    public var reference = ""
    public var unresolved: [Unresolved] = []
    public var packages: [String: [PackageEffect]] = [:]
    public var alternatives: [Alternative] = []
    public var diversions: [PackageTree.Diversion] = []

    public init() {}

    /// Names what is recorded: the packages of a reference root, and what is left out of their
    /// effects.
    static func identity(_ packages: [LockedPackage], drop: [PathPattern], keep: [PathPattern]) -> String {
        let names = packages.map(\.digest.hex).sorted().joined() + drop.map(\.text).sorted().joined(separator: "\n")
        let kept = keep.map(\.text).sorted().joined(separator: "\n")
        return SHA256.hash(Array((names + "\n\n" + kept + "\(version)").utf8)).hex
    }

    /// Raised when other effects are recorded of the same packages.
    private static let version = 2
}

// MARK: - The file

extension Effects {
    /// The file's text: YAML, sorted, a line an effect.
    public var text: String {
        var text = """
            # Written by "vcpe lock": what the packages' maintainer scripts did in a reference root. Commit it and review its
            # changes ("vcpe lock --diff"); don't edit it.
            reference: \(reference)

            """
        func section(_ name: String, _ lines: [String]) {
            text += lines.isEmpty ? "\(name): []\n" : "\(name):\n" + lines.map { "  - \($0)\n" }.joined()
        }
        section(
            "diversions",
            diversions.map {
                flow([("path", "/" + $0.path), ("to", "/" + $0.to)] + ($0.package.map { [("package", $0)] } ?? []))
            })
        section("alternatives", alternatives.map(Self.line))
        section("unresolved", unresolved.map { flow([("path", "/" + $0.path), ("missing", $0.missing)]) })
        text += packages.isEmpty ? "effects: {}\n" : "effects:\n"
        for (package, effects) in packages.sorted(by: { $0.key < $1.key }) where !effects.isEmpty {
            text += "  \(package):\n" + effects.map { "    - \(Self.line($0))\n" }.joined()
        }
        return text
    }

    /// The lines of one package, for people and differences.
    static func lines(_ effects: [PackageEffect]) -> [String] { effects.map(line) }

    private static func line(_ alternative: Alternative) -> String {
        func map(_ entries: [String: String]) -> String {
            "{"
                + entries.sorted { $0.key < $1.key }.map { "\(quoted($0.key)): \(quoted($0.value))" }.joined(
                    separator: ", ") + "}"
        }
        let candidates = alternative.candidates.map { candidate in
            "{path: \(quoted(candidate.path)), priority: \(candidate.priority)"
                + (candidate.slaves.isEmpty ? "}" : ", slaves: \(map(candidate.slaves))}")
        }
        return "{alternative: \(quoted(alternative.name)), link: \(quoted(alternative.link)), "
            + (alternative.slaves.isEmpty ? "" : "slaves: \(map(alternative.slaves)), ")
            + "candidates: [\(candidates.joined(separator: ", "))]}"
    }

    private static func line(_ effect: PackageEffect) -> String {
        switch effect {
        case .user(let name, let id, let group, let comment, let home, let shell):
            flow(
                [("user", name)] + (id.map { [("id", String($0))] } ?? [])
                    + [("group", group), ("comment", comment), ("home", home), ("shell", shell)])
        case .group(let name, let id): flow([("group", name)] + (id.map { [("id", String($0))] } ?? []))
        case .member(let user, let group): flow([("member", user), ("of", group)])
        case .directory(let path, let attributes): flow([("directory", "/" + path)] + pairs(attributes))
        case .attributes(let path, let attributes): flow([("attributes", "/" + path)] + pairs(attributes))
        case .link(let path, let target): flow([("link", "/" + path), ("target", target)])
        case .removed(let path): flow([("removed", "/" + path)])
        case .file(let path, let attributes, let source, let digest):
            fileLine(path, attributes, source, digest)
        }
    }

    private static func fileLine(
        _ path: String, _ attributes: PackageEffect.Attributes, _ source: PackageEffect.Source, _ digest: Digest
    ) -> String {
        let head = flow([("file", "/" + path)] + pairs(attributes) + [("sha256", digest.hex)]).dropLast()
        switch source {
        case .copy(let original): return head + ", copy-of: \(quoted("/" + original))}"
        case .parts(let parts):
            return head + ", parts: [\(parts.map { quoted("/" + $0) }.joined(separator: ", "))]}"
        case .bytes(let bytes):
            guard let text = String(validating: bytes, as: UTF8.self), !text.contains("\0") else {
                return head + ", hex: \"\(hex(bytes))\"}"
            }
            return head + ", content: \(JSON.text(text).line)}"
        }
    }

    private static func pairs(_ attributes: PackageEffect.Attributes) -> [(String, String)] {
        let mode = String(attributes.mode, radix: 8)
        return [
            ("mode", String(repeating: "0", count: max(0, 4 - mode.count)) + mode),
            ("owner", "\(attributes.owner):\(attributes.group)"),
        ] + (attributes.capabilities.map { [("capabilities", $0)] } ?? [])
    }

    /// Quotes what YAML would not take as the plain text that it is.
    private static func quoted(_ text: String) -> String {
        let isPlain =
            text.first.map { $0.isASCII && ($0.isLetter || $0 == "/" || $0 == "_") } ?? false
            && text.unicodeScalars.allSatisfy { scalar in
                scalar.isASCII
                    && (scalar.properties.isAlphabetic || "0123456789/_.-+=@%~".unicodeScalars.contains(scalar))
            } && !["null", "true", "false", "yes", "no", "on", "off", "y", "n"].contains(text.lowercased())
        return isPlain ? text : JSON.text(text).line
    }
}

private func flow(_ pairs: [(String, String)]) -> String {
    "{" + pairs.map { "\($0.0): \($0.0 == "id" ? $0.1 : Effects.flowValue($0.1))" }.joined(separator: ", ") + "}"
}

extension Effects {
    fileprivate static func flowValue(_ text: String) -> String { quoted(text) }

    /// Reads a file of effects; nil when there is none.
    public static func read(_ path: String) throws -> Effects? {
        guard FileSystem.exists(path) else { return nil }
        let problems = ProblemList()
        let node = try YAML.read(try FileSystem.read(path), file: path)
        let effects = shape.read(node, path: "", into: problems)
        try problems.throwIfAny()
        guard let effects else { throw InvalidDocument(problems.problems) }
        return effects
    }

    private static var path: Shape<String> {
        Shape.text("an absolute path") { $0.hasPrefix("/") && !$0.split(separator: "/").contains("..") }
            .map { String($0.dropFirst()) }
    }

    private static var shape: Shape<Effects> {
        .mapping("effects") { fields in
            var effects = Effects()
            effects.reference = fields.required("reference", .text) ?? ""
            let diversion = Shape<PackageTree.Diversion>.mapping("a diversion") { fields in
                let from = fields.required("path", path)
                let to = fields.required("to", path)
                let package = fields.optional("package", .text)
                guard let from, let to else { return nil }
                return PackageTree.Diversion(package: package, path: from, to: to)
            }
            effects.diversions = fields.required("diversions", .list(of: diversion)) ?? []
            effects.alternatives = fields.required("alternatives", .list(of: alternative)) ?? []
            let unresolved = Shape<Unresolved>.mapping("path and missing") { fields in
                let path = fields.required("path", path)
                let missing = fields.required("missing", .text)
                guard let path, let missing else { return nil }
                return Unresolved(path: path, missing: missing)
            }
            effects.unresolved = fields.required("unresolved", .list(of: unresolved)) ?? []
            let packages = fields.required("effects", .dictionary(.text, .list(of: effect))) ?? []
            effects.packages = Dictionary(packages.map { ($0.key, $0.value) }) { $1 }
            return effects
        }
    }

    private static var alternative: Shape<Alternative> {
        .mapping("an alternative") { fields in
            let slaves = Shape.dictionary(.text, .text).map { Dictionary($0.map { ($0.key, $0.value) }) { $1 } }
            let name = fields.required("alternative", .text)
            let link = fields.required("link", .text)
            let own = fields.optional("slaves", slaves) ?? [:]
            let candidate = Shape<Alternative.Candidate>.mapping("a candidate") { fields in
                let path = fields.required("path", .text)
                let priority = fields.required("priority", .integer(Int.min...Int.max))
                let own = fields.optional("slaves", slaves) ?? [:]
                guard let path, let priority else { return nil }
                return Alternative.Candidate(path: path, priority: priority, slaves: own)
            }
            let candidates = fields.required("candidates", .list(of: candidate))
            guard let name, let link, let candidates else { return nil }
            return Alternative(name: name, link: link, slaves: own, candidates: candidates)
        }
    }

    private static var effect: Shape<PackageEffect> {
        .mapping("an effect") { fields in
            if fields.has("user") { return user(&fields) }
            if fields.has("member") {
                let user = fields.required("member", .text)
                let group = fields.required("of", .text)
                if let user, let group { return .member(user: user, of: group) }
                return nil
            }
            if fields.has("link") {
                let path = fields.required("link", path)
                let target = fields.required("target", .text)
                if let path, let target { return .link(path: path, target: target) }
                return nil
            }
            if fields.has("removed") { return fields.required("removed", path).map { .removed(path: $0) } }
            if fields.has("directory") {
                let path = fields.required("directory", path)
                let attributes = attributes(&fields)
                if let path, let attributes { return .directory(path: path, attributes) }
                return nil
            }
            if fields.has("attributes") {
                let path = fields.required("attributes", path)
                let attributes = attributes(&fields)
                if let path, let attributes { return .attributes(path: path, attributes) }
                return nil
            }
            if fields.has("file") { return file(&fields) }
            let name = fields.required("group", .text)
            let id = fields.optional("id", .integer(0...4_294_967_294))
            return name.map { .group(name: $0, id: id) }
        }
    }

    private static func user(_ fields: inout Fields) -> PackageEffect? {
        let name = fields.required("user", .text)
        let id = fields.optional("id", .integer(0...4_294_967_294))
        let group = fields.required("group", .text)
        let comment = fields.required("comment", .text)
        let home = fields.required("home", .text)
        let shell = fields.required("shell", .text)
        guard let name, let group, let comment, let home, let shell else { return nil }
        return .user(name: name, id: id, group: group, comment: comment, home: home, shell: shell)
    }

    private static func attributes(_ fields: inout Fields) -> PackageEffect.Attributes? {
        let mode = fields.required("mode", Shape<UInt32>.scalar("octal digits") { UInt32($0.text, radix: 8) })
        let owner = fields.required("owner", .text("USER:GROUP") { $0.split(separator: ":").count == 2 })
        let capabilities = fields.optional("capabilities", .text)
        guard let mode, let owner else { return nil }
        let names = owner.split(separator: ":").map(String.init)
        return PackageEffect.Attributes(mode: mode, owner: names[0], group: names[1], capabilities: capabilities)
    }

    private static func file(_ fields: inout Fields) -> PackageEffect? {
        let path = fields.required("file", path)
        let attributes = attributes(&fields)
        let digest = fields.required("sha256", Shape<Digest>.scalar("64 hexadecimal digits") { Digest(hex: $0.text) })
        let copy = fields.optional("copy-of", Self.path)
        let parts = fields.optional("parts", .list(of: Self.path))
        let content = fields.optional("content", .text)
        let bytes = fields.optional("hex", .text)
        let source: PackageEffect.Source? =
            copy.map { .copy(of: $0) } ?? parts.map { .parts($0) } ?? content.map { .bytes(Array($0.utf8)) }
            ?? bytes.map { .bytes(unhex($0)) }
        guard let path, let attributes, let digest, let source else { return nil }
        return .file(path: path, attributes, source, digest)
    }
}

// MARK: - Comparing

extension Effects {
    /// What changed from `old`, by package.
    func changes(from old: Effects) -> [LockChanges.Effect] {
        func compare(
            _ kind: LockChanges.Effect.Kind, of package: String? = nil, _ before: [String], _ after: [String]
        ) -> [LockChanges.Effect] {
            before.filter { !after.contains($0) }.map { .init(kind: kind, package: package, isAdded: false, text: $0) }
                + after.filter { !before.contains($0) }
                .map { .init(kind: kind, package: package, isAdded: true, text: $0) }
        }
        func unresolved(_ effects: Effects) -> [String] {
            effects.unresolved.map { "/\($0.path) lacks \($0.missing)" }
        }
        func diversions(_ effects: Effects) -> [String] { effects.diversions.map { "/\($0.path) to /\($0.to)" } }
        return Set(packages.keys).union(old.packages.keys).sorted().flatMap { package in
            compare(.effect, of: package, Self.lines(old.packages[package] ?? []), Self.lines(packages[package] ?? []))
        }
            + compare(.alternative, old.alternatives.map(Self.line), alternatives.map(Self.line))
            + compare(.unresolved, unresolved(old), unresolved(self))
            + compare(.diversion, diversions(old), diversions(self))
    }
}
