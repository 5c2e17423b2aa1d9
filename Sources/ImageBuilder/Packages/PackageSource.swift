import Archives
import Digests
import Documents
import Files
import Glibc

/// An apt source: the URLs of its indexes and .debs, its keyring and its pins.
struct PackageSource: Sendable, Hashable {
    /// The `archive` in the lock's rows.
    var name: String
    /// The URLs above `dists/` and `pool/`, without a slash at the end; the first that answers is
    /// used.
    var urls: [String]
    var suites: [String]
    var components: [String]
    /// An absolute path; nil for a source that needs no signature because it is made here.
    var keyring: String?
    var pins: [Definition.Archive.Pin] = []
    /// Of the definition's archive, for errors.
    var position: SourcePosition?
    /// For local .debs: their paths relative to the definition, by their paths in the source.
    var paths: [String: String] = [:]

    /// A stanza of sources.list(5).
    var stanza: String {
        """
        Types: deb
        URIs: \(urls.joined(separator: " "))
        Suites: \(suites.joined(separator: " "))
        \(components.isEmpty ? "" : "Components: \(components.joined(separator: " "))\n")\
        \(keyring.map { "Signed-By: \($0)" } ?? "Trusted: yes")

        """
    }

    /// Whether an index that apt knows is of this source.
    func has(_ index: ArchivePolicy.Index) -> Bool {
        guard urls.contains(where: { Self.canonical($0) == index.url }) else { return false }
        if components.isEmpty { return suites.contains(index.place) }
        return suites.contains { suite in components.contains { "\(suite)/\($0)" == index.place } }
    }

    /// A URL as apt prints it of an index: without a user's name and password, and with one slash
    /// before a file's path.
    static func canonical(_ url: String) -> String {
        let url = url.trimming { $0 == "/" }
        if url.hasPrefix("file:") { return "file:/" + url.dropFirst("file:".count).drop { $0 == "/" } }
        guard let start = url.firstRange(of: "://")?.upperBound else { return url }
        let authority = url[start...].prefix { $0 != "/" }
        guard let at = authority.lastIndex(of: "@") else { return url }
        return String(url[..<start] + url[url.index(after: at)...])
    }

    /// Debian's own archives and those of the definition.
    ///
    /// - Parameters:
    ///   - folder: the definition's folder.
    ///   - components: those of Debian's own archives.
    static func all(
        _ definition: Definition, folder: String, mirrors: Mirrors, components: [String]
    ) throws -> [PackageSource] {
        let suite = definition.base.suite
        let keyring = try definition.base.signedBy.map { try Self.keyring($0, folder: folder) } ?? Mirrors.keyring
        var sources = [
            PackageSource(
                name: "main", urls: [mirrors.main], suites: [suite, suite + "-updates"], components: components,
                keyring: keyring),
            PackageSource(
                name: "security", urls: [mirrors.security], suites: [suite + "-security"], components: components,
                keyring: keyring),
        ]
        for archive in definition.archives {
            // Debian's mirror has one keyring, whatever the suite.
            let usual = archive.uris.isEmpty ? keyring : Mirrors.keyring
            let keyring = try archive.signedBy.map { try Self.keyring($0, folder: folder) } ?? usual
            let urls = archive.uris.map { $0.trimming { $0 == "/" } }
            sources.append(
                PackageSource(
                    name: archive.name, urls: urls.isEmpty ? [mirrors.main] : urls, suites: archive.suites,
                    components: archive.components, keyring: keyring, pins: archive.pins,
                    position: archive.position))
        }
        return sources
    }

    /// The absolute path of a keyring.
    ///
    /// - Parameter folder: the definition's.
    static func keyring(_ signedBy: Located<String>, folder: String) throws -> String {
        let path = "\(folder)/\(signedBy.value)"
        guard FileSystem.exists(path) else {
            throw InvalidDocument([
                signedBy.problem("there is no \(path)", hint: "the path is relative to \(folder)")
            ])
        }
        return try FileSystem.realPath(path)
    }

    /// Local .debs, indexed in a directory of the cache, so that apt chooses among them and the
    /// archives' packages.
    ///
    /// - Parameters:
    ///   - debs: files and directories, relative to `folder`.
    ///   - directory: the directory of the index.
    static func local(_ debs: [Located<String>], folder: String, directory: String) throws -> PackageSource? {
        if debs.isEmpty { return nil }
        var source = PackageSource(
            name: LockedPackage.ownArchive, urls: ["file:\(directory)"], suites: ["./"], components: [],
            pins: [Definition.Archive.Pin(packages: [], priority: 995)])
        var index = ""
        for deb in debs {
            for path in try files(deb, folder: folder) {
                let bytes = try FileSystem.read("\(folder)/\(path)")
                var control = ""
                try DebianPackage.read(
                    "\(folder)/\(path)",
                    control: { if $0 == "control" { control = String(decoding: $1, as: UTF8.self) } },
                    data: { _, _ in })
                let fields = UnpackedPackage.controlFields(Array(control.utf8))
                guard let name = fields["Package"], let version = fields["Version"],
                    let architecture = fields["Architecture"]
                else {
                    throw InvalidDocument([
                        deb.problem("\(folder)/\(path): its control file has no Package, Version or Architecture")
                    ])
                }
                let escaped = version.replacing(":", with: "%3a")
                let file = "\(name)_\(escaped)_\(architecture).deb"
                source.paths[file] = path
                let stanza = control.split(separator: "\n").joined(separator: "\n")
                index +=
                    stanza + "\nFilename: ./\(file)\nSize: \(bytes.count)\nSHA256: \(SHA256.hash(bytes).hex)\n\n"
            }
        }
        try FileSystem.makeDirectory(directory)
        try FileSystem.replace("\(directory)/Packages", with: index)
        // By its Origin a pin selects this index, and no other archive of files. apt requires a
        // date; a constant one keeps the file the same for the same packages.
        let digest = SHA256.hash(Array(index.utf8)).hex
        try FileSystem.replace(
            "\(directory)/Release",
            with: """
                Origin: vcpe
                Label: debs
                Date: Sat, 01 Jan 2000 00:00:00 UTC
                SHA256:
                 \(digest) \(index.utf8.count) Packages

                """)
        return source
    }

    /// The .debs of an item of `debs:`, relative to the definition's folder.
    private static func files(_ deb: Located<String>, folder: String) throws -> [String] {
        let name = deb.value.trimming { $0 == "/" }
        if deb.value.hasPrefix("/") || deb.value.split(separator: "/").contains("..") {
            throw InvalidDocument([
                deb.problem(
                    "\"\(deb.value)\" is outside the definition's folder", hint: "allowed is a path below \(folder)")
            ])
        }
        guard let status = try? File("\(folder)/\(name)").status() else {
            throw InvalidDocument([
                deb.problem("there is no \(folder)/\(name)", hint: "the path is relative to \(folder)")
            ])
        }
        if status.st_mode & S_IFMT == S_IFDIR {
            let found = try FileSystem.list("\(folder)/\(name)").filter { $0.hasSuffix(".deb") }
            guard !found.isEmpty else {
                throw InvalidDocument([deb.problem("\(folder)/\(name) has no .deb")])
            }
            return found.map { "\(name)/\($0)" }
        }
        guard name.hasSuffix(".deb") else {
            throw InvalidDocument([deb.problem("\(name) is not a .deb", hint: "use a .deb, or a directory with .debs")])
        }
        return [name]
    }
}
