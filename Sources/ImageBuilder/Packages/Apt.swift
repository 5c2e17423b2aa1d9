import Digests
import Documents
import Files
import Glibc
import Processes

/// apt with a root of its own: own sources, state and keyring. Nothing of the host is read or changed, and no
/// privilege is needed.
struct Apt {
    /// Why apt would not have it.
    struct Unresolvable: Error {
        /// apt's own words.
        var reason: String
    }

    private let root: String
    private let mirrors: Mirrors
    private let base: Definition.Base
    /// Held as long as this lives: two resolvers at once would change the lists under each other.
    private let lock: File

    /// Makes the root; `lists` are kept in the cache and shared by all images of the same suite and mirror.
    init(base: Definition.Base, mirrors: Mirrors, components: [String], cache: Cache) throws {
        let sources = """
            Types: deb
            URIs: \(mirrors.main)
            Suites: \(base.suite) \(base.suite)-updates
            Components: \(components.joined(separator: " "))
            Signed-By: \(Mirrors.keyring)

            Types: deb
            URIs: \(mirrors.security)
            Suites: \(base.suite)-security
            Components: \(components.joined(separator: " "))
            Signed-By: \(Mirrors.keyring)

            """
        let key = SHA256.hash(Array((sources + base.architecture).utf8)).hex.prefix(16)
        root = try cache.folder("apt/\(base.suite)-\(key)")
        self.mirrors = mirrors
        self.base = base
        for folder in ["etc/preferences.d", "etc/trusted.gpg.d", "lists/partial", "archives/partial", "log"] {
            try FileSystem.makeDirectory("\(root)/\(folder)")
        }
        lock = try File("\(root)/lock", O_RDWR | O_CREAT)
        while flock(lock.descriptor, LOCK_EX) != 0 {
            guard errno == EINTR else { throw SystemError("flock", lock.path) }
        }
        try FileSystem.replace("\(root)/etc/vcpe.sources", with: sources)
    }

    /// Options that cut every tie to the host.
    private func configuration(status: String, preferences: String) -> String {
        """
        Dir "\(root)";
        Dir::State "\(root)";
        Dir::State::lists "\(root)/lists/";
        Dir::State::status "\(status)";
        Dir::State::extended_states "\(root)/extended_states";
        Dir::Cache "\(root)";
        Dir::Cache::archives "\(root)/archives/";
        Dir::Etc "\(root)/etc";
        Dir::Etc::sourcelist "\(root)/etc/vcpe.sources";
        Dir::Etc::sourceparts "/dev/null";
        Dir::Etc::main "/dev/null";
        Dir::Etc::parts "/dev/null";
        Dir::Etc::preferences "\(preferences)";
        Dir::Etc::preferencesparts "\(root)/etc/preferences.d";
        Dir::Etc::trustedparts "\(root)/etc/trusted.gpg.d";
        Dir::Log "\(root)/log";
        APT::Architecture "\(base.architecture)";
        APT::Architectures { "\(base.architecture)"; };
        APT::Install-Recommends "0";
        APT::Sandbox::User "";
        APT::Get::Assume-Yes "1";
        Acquire::Languages "none";
        Acquire::ForceHash "SHA256";
        Acquire::Retries "2";
        Debug::NoLocking "1";
        pkgCacheGen::ForceEssential "none";
        \(mirrors.proxy.map { "Acquire::http::Proxy \"\($0)\";" } ?? "")

        """
    }

    private func run(_ arguments: [String], assumed: [String], pins: [String: String]) throws -> Command.Result {
        // A folder of its own for each call, so that two builds at once share the lists and nothing else.
        let folder = try FileSystem.makeTemporaryDirectory(in: root, prefix: FileSystem.temporaryPrefix + "run")
        defer { try? FileSystem.remove(folder) }
        let status = assumed.map {
            """
            Package: \($0)
            Status: install ok installed
            Version: 9999999:1
            Architecture: \(base.architecture)
            Multi-Arch: foreign
            Maintainer: vcpe
            Description: taken as there

            """
        }
        try FileSystem.replace("\(folder)/status", with: status.joined(separator: "\n"))
        let preferences = pins.sorted { $0.key < $1.key }.map {
            "Package: \($0.key)\nPin: version \($0.value)\nPin-Priority: 1001\n"
        }
        try FileSystem.replace("\(folder)/preferences", with: preferences.joined(separator: "\n"))
        try FileSystem.replace(
            "\(folder)/apt.conf",
            with: configuration(status: "\(folder)/status", preferences: "\(folder)/preferences"))
        return try Command("apt-get", arguments, environment: ["APT_CONFIG": "\(folder)/apt.conf"]).run()
    }

    /// Fetches the indexes.
    ///
    /// - Returns: the `Date` of each suite's InRelease file.
    func update() throws -> [String: String] {
        let result = try run(["update", "-q", "--error-on=any"], assumed: [], pins: [:])
        guard result.status == 0 else {
            throw BuildFailure(
                "apt can't read the archive's indexes:\n  \(Self.complaints(result))",
                hint: "look at the network and at the mirror (\(mirrors.main)), or name another by --mirror")
        }
        var dates: [String: String] = [:]
        for name in try FileSystem.list("\(root)/lists") where name.hasSuffix("_InRelease") {
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

    /// Every package that `names` need, themselves included.
    ///
    /// - Parameters:
    ///   - assumed: packages taken as installed already: neither they nor what only they need is wanted.
    ///   - pins: versions to keep by package, as long as the archive has them.
    func resolve(_ names: [String], assumed: [String], pins: [String: String]) throws -> [LockedPackage] {
        let result = try run(
            ["install", "--print-uris", "-qq", "--allow-downgrades", "--"] + names,
            assumed: assumed.filter { !names.contains($0) }, pins: pins)
        guard result.status == 0 else { throw Unresolvable(reason: Self.complaints(result)) }
        return try result.text.split(separator: "\n").map { line in
            let fields = line.split(separator: " ")
            guard fields.count >= 4, let size = Int(fields[2]), fields[3].hasPrefix("SHA256:"),
                let digest = Digest(hex: fields[3].dropFirst(7)),
                let package = LockedPackage(
                    url: String(fields[0].dropFirst().dropLast()), file: String(fields[1]), size: size, digest: digest,
                    mirrors: mirrors)
            else { throw BuildFailure("apt answered with a line that is not understood: \(line)") }
            return package
        }.sorted { $0.name < $1.name }
    }

    /// What apt said, without its chatter.
    private static func complaints(_ result: Command.Result) -> String {
        let lines = (result.text + result.errorText).split(separator: "\n").filter { line in
            !["Hit:", "Get:", "Ign:", "Fetched", "Reading", "Building"].contains { line.hasPrefix($0) }
        }
        return lines.joined(separator: "\n  ")
    }
}
