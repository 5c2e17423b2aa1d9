import Digests
import Documents
import Files
import Glibc
import Processes

/// apt with a private root: its own sources, state and keyrings. apt neither reads nor changes the
/// host's apt, and needs no privilege.
///
/// The host's apt fetches the indexes. The suite's own apt, unpacked from the lock's tools,
/// resolves. Its version determines which alternatives are chosen, so that every host writes the
/// same lock.
struct Apt {
    /// apt found no solution.
    struct Unresolvable: Error {
        /// The output of apt, with the unmet dependencies first.
        var reason: String
    }

    let sources: [PackageSource]
    private let root: String
    private let mirrors: Mirrors
    private let base: Definition.Base
    private let cache: Cache
    /// Held while this value exists: concurrent resolvers would overwrite each other's lists.
    private let lock: FileLock
    /// Stanzas of apt_preferences(5) for the archives' pins; known after ``update()``.
    private var preferences = ""
    /// The suite's own apt; the host's until it is set.
    var tools: Tools?

    /// Creates the root. The lists are kept in the cache and shared by all images with the same
    /// sources.
    ///
    /// - Parameters:
    ///   - folder: the definition's folder.
    ///   - waiting: called once, when another resolver uses the same lists, with its process.
    init(
        definition: Definition, folder: String, mirrors: Mirrors, components: [String], cache: Cache,
        waiting: (FileLock.Holder) -> Void
    ) throws {
        base = definition.base
        self.mirrors = mirrors
        self.cache = cache
        var sources = try PackageSource.all(definition, folder: folder, mirrors: mirrors, components: components)
        let text = sources.map(\.stanza).joined(separator: "\n")
        let key = SHA256.hash(Array((text + base.architecture + definition.debs.map(\.value).joined()).utf8)).hex
        root = try cache.folder("apt/\(base.suite)-\(key.prefix(16))")
        lock = try FileLock("\(root)/lock", .exclusive, waiting: waiting)
        try Self.removeUnmarked(in: root, cache)
        for folder in ["etc/preferences.d", "etc/trusted.gpg.d", "lists/partial", "archives/partial", "log"] {
            try FileSystem.makeDirectory("\(root)/\(folder)")
        }
        if let local = try PackageSource.local(
            definition.debs, folder: folder, directory: "\(try FileSystem.realPath(root))/own")
        {
            sources.append(local)
        }
        self.sources = sources
        try FileSystem.replace(
            "\(root)/etc/vcpe.sources", with: sources.map(\.stanza).joined(separator: "\n"))
    }

    /// Removes what an earlier run has left, but for the indexes if they are those that a build of
    /// this user has fetched: apt checks an index when it fetches it, and later believes what it
    /// finds.
    private static func removeUnmarked(in root: String, _ cache: Cache) throws {
        let isMarked = cache.isMarked(section(root), lists, try digest(ofLists: "\(root)/\(lists)"))
        for name in try FileSystem.list(root) where name != "lock" {
            if isMarked, name.hasPrefix(lists) { continue }
            try FileSystem.remove("\(root)/\(name)")
        }
        for name in ["partial", "auxfiles"] { try FileSystem.remove("\(root)/\(lists)/\(name)") }
    }

    /// The folder of the indexes in the root, and their name for ``Cache/mark(_:_:_:)``.
    private static let lists = "lists"

    private static func section(_ root: String) -> String { "apt/\(FileSystem.name(of: root))" }

    /// Of the names and contents of all indexes. Those of an archive of files are links, whose
    /// contents are not the cache's.
    private static func digest(ofLists folder: String) throws -> Digest {
        var hash = SHA256()
        for name in (try? FileSystem.list(folder)) ?? [] where name.contains("_") {
            let path = "\(folder)/\(name)"
            let content =
                if let target = try? FileSystem.linkTarget(path) {
                    Array("-> \(target)".utf8)
                } else { SHA256.hash(try FileSystem.read(path)).bytes }
            hash.update(Array(name.utf8) + [0] + content + [0])
        }
        return hash.finish()
    }

    /// Options that isolate apt from the host.
    ///
    /// - Parameter folder: that of one call, with its preferences; gets the logins.
    private func configuration(in folder: String) throws -> String {
        """
        Dir "\(root)";
        Dir::State "\(root)";
        Dir::State::lists "\(root)/lists/";
        Dir::State::status "\(root)/status";
        Dir::State::extended_states "\(root)/extended_states";
        Dir::Cache "\(root)";
        Dir::Cache::archives "\(root)/archives/";
        Dir::Etc "\(root)/etc";
        Dir::Etc::sourcelist "\(root)/etc/vcpe.sources";
        Dir::Etc::sourceparts "/dev/null";
        Dir::Etc::main "/dev/null";
        Dir::Etc::parts "/dev/null";
        Dir::Etc::preferences "\(folder)/preferences";
        Dir::Etc::preferencesparts "\(root)/etc/preferences.d";
        Dir::Etc::trustedparts "\(root)/etc/trusted.gpg.d";
        Dir::Log "\(root)/log";
        APT::Architecture "\(base.architecture)";
        APT::Architectures { "\(base.architecture)"; };
        APT::Install-Recommends "0";
        APT::Sandbox::User "";
        APT::Get::Assume-Yes "1";
        APT::Cmd::Disable-Script-Warning "1";
        Acquire::Languages "none";
        Acquire::ForceHash "SHA256";
        Acquire::Retries "2";
        Debug::NoLocking "1";
        pkgCacheGen::ForceEssential "none";
        \(try mirrors.apt.configuration(in: folder))

        """
    }

    private func run(_ program: String, _ arguments: [String], pins: [String: String] = [:]) throws -> Command.Result {
        // Each call has its own folder, so that concurrent builds share only the lists.
        let folder = try FileSystem.makeTemporaryDirectory(in: root, prefix: FileSystem.temporaryPrefix + "run")
        defer { try? FileSystem.remove(folder) }
        try FileSystem.replace("\(root)/status", with: "")
        let kept = pins.sorted { $0.key < $1.key }.map {
            "Package: \($0.key)\nPin: version \($0.value)\nPin-Priority: 1001\n\n"
        }
        try FileSystem.replace(
            "\(folder)/preferences", with: self.preferences + kept.joined())
        // A proxy's URL can have a password.
        try FileSystem.replace("\(folder)/apt.conf", with: configuration(in: folder), mode: 0o600)
        var command = tools?.command("usr/bin/\(program)", arguments) ?? Command(program, arguments)
        command.environment["APT_CONFIG"] = "\(folder)/apt.conf"
        return try command.run()
    }

    /// Fetches the indexes.
    ///
    /// - Returns: the `Date` of the InRelease file of each suite of Debian's own archives.
    mutating func update() throws -> [String: String] {
        let result = try run("apt-get", ["update", "-q", "--error-on=any"])
        guard result.status == 0 else {
            throw BuildFailure(
                "apt can't read the archives' indexes:\n  \(Self.diagnostics(result))",
                hint: "check the network and the mirror (\(mirrors.main)), or use another one with --mirror")
        }
        try cache.mark(Self.section(root), Self.lists, try Self.digest(ofLists: "\(root)/\(Self.lists)"))
        if sources.contains(where: { !$0.pins.isEmpty }) {
            preferences = try ArchivePolicy(run("apt-cache", ["policy"]).text).preferences(sources)
        }
        // Another archive may have a suite of the same name; the snapshot archive has Debian's only.
        let own = [mirrors.main, mirrors.security].map { Self.listName($0) + "_dists_" }
        var dates: [String: String] = [:]
        for name in try FileSystem.list("\(root)/lists")
        where name.hasSuffix("_InRelease") && own.contains(where: { name.hasPrefix($0) }) {
            let text = String(decoding: try FileSystem.read("\(root)/lists/\(name)"), as: UTF8.self)
            guard let suite = name.split(separator: "_dists_").last?.dropLast("_InRelease".count) else {
                continue
            }
            for line in text.split(separator: "\n").prefix(30) where line.hasPrefix("Date: ") {
                dates[String(suite)] = String(line.dropFirst(6))
            }
        }
        return dates
    }

    /// The start of the names that apt gives to an archive's indexes: the URL without its scheme and
    /// login, with `/` as `_` (URItoFileName in apt's strutl.cc).
    static func listName(_ url: String) -> String {
        var address = String(url.drop { $0 != ":" }.dropFirst())
        if address.hasPrefix("//") { address.removeFirst(2) }
        if let login = address.prefix(while: { $0 != "/" }).lastIndex(of: "@") { address.removeSubrange(...login) }
        while address.hasSuffix("/") { address.removeLast() }
        return address.map { character in
            if character == "/" { return "_" }
            guard "\\|{}[]<>\"^~_=!@#$%^&*".contains(character) else { return String(character) }
            return "%" + String(character.asciiValue ?? 0, radix: 16)
        }.joined()
    }

    /// Resolves `names` and all of their dependencies for a system without packages.
    ///
    /// - Parameters:
    ///   - names: packages or apt-patterns(7).
    ///   - pins: versions to keep by package, as long as the archive has them.
    func resolve(_ names: [String], pins: [String: String]) throws -> [LockedPackage] {
        let result = try run(
            "apt-get", ["install", "--print-uris", "-q", "--allow-downgrades", "--"] + names, pins: pins)
        guard result.status == 0 else { throw Unresolvable(reason: Self.diagnostics(result)) }
        let printed = result.text.split(separator: "\n").filter { $0.hasPrefix("'") }
        let packages = try printed.map { line in
            guard let package = LockedPackage(printed: line, sources: sources) else {
                throw BuildFailure("apt printed an unknown line: \(line)")
            }
            return package
        }
        return try naming(packages, printed).sorted { $0.name < $1.name }
    }

    /// The packages, each with the source that has it: a URL alone doesn't tell the suites of one
    /// server apart.
    ///
    /// - Parameter printed: apt's lines, in the order of the packages.
    private func naming(_ packages: [LockedPackage], _ printed: [Substring]) throws -> [LockedPackage] {
        let urls = sources.flatMap { $0.urls.map { PackageSource.canonical($0) + "/" } }
        let isPlain = urls.indices.allSatisfy { i in
            urls.indices.allSatisfy { $0 == i || !urls[$0].hasPrefix(urls[i]) }
        }
        if isPlain { return packages }
        let policy = ArchivePolicy(try run("apt-cache", ["policy"] + packages.map(\.name)).text)
        return try zip(packages, printed).map { package, line in
            let found = policy.versions["\(package.name) \(package.version)"] ?? []
            let source = sources.first { source in
                found.contains { source.has($0) && LockedPackage.url(line).hasPrefix($0.url + "/") }
            }
            guard let named = source.flatMap({ LockedPackage(printed: line, sources: [$0]) }) else {
                throw BuildFailure("apt does not tell which archive has \(package.name) \(package.version)")
            }
            return named
        }
    }

    /// The packages' stanzas of the indexes.
    func describe(_ packages: [LockedPackage]) throws -> PackageGraph {
        let result = try run(
            "apt-cache", ["show", "--no-all-versions"] + packages.map { "\($0.name)=\($0.version)" })
        guard result.status == 0 else {
            throw BuildFailure("apt-cache can't describe the chosen packages:\n  \(Self.diagnostics(result))")
        }
        let versions = Dictionary(packages.map { ($0.name, $0.version) }) { $1 }
        return PackageGraph(PackageGraph.stanzas(result.text).filter { versions[$0.name] == $0.version })
    }

    /// The output of apt, without its progress.
    private static func diagnostics(_ result: Command.Result) -> String {
        let progress = [
            "Hit:", "Get:", "Ign:", "Fetched", "Reading", "Building", "Some packages could not be installed.",
            "requested an impossible situation", "distribution that some required packages",
            "or been moved out of Incoming.", "The following information may help",
        ]
        let lines = (result.text + result.errorText).split(separator: "\n").filter { line in
            !progress.contains { line.hasPrefix($0) }
        }
        return lines.joined(separator: "\n  ")
    }
}
