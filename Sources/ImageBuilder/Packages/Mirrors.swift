import Files
import Glibc
import Processes
import Transfers

/// The mirrors of Debian's archives.
public struct Mirrors: Sendable, Hashable {
    /// The URL above `dists/` and `pool/` of the main archive, without a slash at its end.
    public var main: String
    /// The same URL of the security archive.
    public var security: String
    /// How the host's apt reaches them.
    public var apt = HostApt()

    public init(main: String, security: String, apt: HostApt = HostApt()) {
        (self.main, self.security, self.apt) = (main, security, apt)
    }

    /// The mirrors that the host's own apt uses, or those that the caller specifies.
    ///
    /// A source of the host is used when it has the suite, and when a key of the keyring signed the
    /// suite's `InRelease`. With Debian's keyring this excludes third parties and other
    /// distributions.
    ///
    /// - Parameters:
    ///   - mirror: URL of the main archive. The security archive is then at that URL with
    ///     `-security`, unless it is specified too.
    ///   - securityMirror: URL of the security archive.
    ///   - keyring: verifies the host's sources.
    public static func find(
        base: Definition.Base, mirror: String?, securityMirror: String? = nil,
        keyring: String = Mirrors.keyring, cache: Cache
    ) throws -> Mirrors {
        var apt = HostApt.ofHost()
        for url in [mirror, securityMirror].compactMap({ $0 }) { try refuseLogin(in: url) }
        func trimmed(_ url: String) -> String { url.hasSuffix("/") ? trimmed(String(url.dropLast())) : url }
        let main = (mirror ?? base.mirror).map(trimmed)
        let security = (securityMirror ?? base.securityMirror).map(trimmed) ?? main.map { $0 + "-security" }
        if let main, let security { return Mirrors(main: main, security: security, apt: apt) }
        let candidates = AptSources.ofHost().map { url in
            if let login = URLUser.login(in: url) { apt.logins.add(login, for: URLUser.removed(from: url)) }
            return trimmed(URLUser.removed(from: url))
        }
        let suites = [base.suite, base.suite + "-security"]
        let answers = try probe(suites, at: candidates, apt: apt, keyring: keyring, cache: cache)
        guard let main = main ?? answers.found[0], let security = security ?? answers.found[1] else {
            let wanted = answers.found[0] == nil ? suites[0] : suites[1]
            throw failure(wanted, candidates, answers.failures.filter { $0.url.contains("/dists/\(wanted)/") })
        }
        return Mirrors(main: main, security: security, apt: apt)
    }

    /// Refuses a URL with a password of the command line, which all users of the host can read.
    static func refuseLogin(in url: String) throws(BuildFailure) {
        guard URLUser.login(in: url) != nil else { return }
        let bare = URLUser.removed(from: url)
        throw BuildFailure(
            "\(bare): found a user in the URL, allowed is a URL without",
            hint: "machine \(bare) login USER password PASSWORD, in a file of /etc/apt/auth.conf.d: apt_auth.conf(5)")
    }

    /// The error when no source of the host has a suite. It distinguishes servers that don't answer
    /// from servers that don't have the suite.
    private static func failure(_ suite: String, _ candidates: [String], _ failures: [DownloadFailure]) -> BuildFailure
    {
        let silent = failures.filter { $0.reason != .gone }
        if silent.isEmpty {
            return BuildFailure(
                "none of this host's apt sources offers Debian's \(suite): "
                    + (candidates.isEmpty ? "there are none" : candidates.joined(separator: ", ")),
                hint: "--mirror URL, or base.mirror and base.security-mirror in the definition")
        }
        if silent.contains(where: \.isDenied) {
            return BuildFailure(
                "can't check the mirrors for Debian's \(suite):\n  " + silent.map { "\($0)" }.joined(separator: "\n  "),
                hint: Fetching.deniedHint)
        }
        return BuildFailure(
            "can't check the mirrors for Debian's \(suite):\n  " + silent.map { "\($0)" }.joined(separator: "\n  "),
            hint: "check the network, the proxy and the cache's disk, or set a mirror with --mirror URL")
    }

    /// For each suite the first of `candidates` whose InRelease verifies, and the downloads that
    /// failed.
    private static func probe(
        _ suites: [String], at candidates: [String], apt: HostApt, keyring: String, cache: Cache
    ) throws -> (found: [String?], failures: [DownloadFailure]) {
        let folder = try FileSystem.makeTemporaryDirectory(
            in: try cache.folder("apt"), prefix: FileSystem.temporaryPrefix + "probe")
        defer { try? FileSystem.remove(folder) }
        var downloads: [(suite: Int, candidate: String, download: Download)] = []
        for (s, suite) in suites.enumerated() {
            for (c, candidate) in candidates.enumerated() {
                let url = "\(candidate)/dists/\(suite)/InRelease"
                downloads.append((s, candidate, Download(url: url, path: "\(folder)/\(s)-\(c)")))
            }
        }
        let failures = try apt.fetch(downloads.map(\.download))
        var found: [String?] = suites.map { _ in nil }
        for (suite, candidate, download) in downloads where found[suite] == nil && FileSystem.exists(download.path) {
            if try isSigned(download.path, keyring) { found[suite] = candidate }
        }
        return (found, failures)
    }

    private static func isSigned(_ path: String, _ keyring: String) throws -> Bool {
        do {
            return try Command("gpgv", ["--keyring", keyring, path]).run().status == 0
        } catch {
            guard error.code == ENOENT else { throw error }
            throw BuildFailure("there is no gpgv, which verifies Debian's signatures", hint: "apt-get install gpgv")
        }
    }

    /// Debian's archive keys, from the package debian-archive-keyring.
    public static let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
}

/// The host's package sources (sources.list(5)).
enum AptSources {
    /// The URIs of all enabled sources of binary packages, in order and without duplicates, from
    /// both file formats.
    static func ofHost() -> [String] {
        let folder = "/etc/apt/sources.list.d"
        let files = ["/etc/apt/sources.list"] + ((try? FileSystem.list(folder)) ?? []).map { "\(folder)/\($0)" }
        var seen: Set<String> = []
        return files.flatMap { file -> [String] in
            guard let bytes = try? FileSystem.read(file) else { return [] }
            let text = String(decoding: bytes, as: UTF8.self)
            if file.hasSuffix(".sources") { return uris(deb822: text) }
            return file.hasSuffix(".list") ? uris(lines: text) : []
        }.filter { uri in
            ["http://", "https://", "file:/"].contains { uri.hasPrefix($0) } && seen.insert(uri).inserted
        }
    }

    /// The one-line format: `deb [ option=value … ] uri suite component …`.
    static func uris(lines text: String) -> [String] {
        text.split(separator: "\n").compactMap { line -> String? in
            let words = line.prefix { $0 != "#" }.split(whereSeparator: { $0 == " " || $0 == "\t" }).map(String.init)
            guard words.first == "deb" else { return nil }
            var rest = words.dropFirst()
            if rest.first?.hasPrefix("[") == true {
                rest = rest.drop { !$0.hasSuffix("]") }.dropFirst()
            }
            return rest.first
        }
    }

    /// The deb822 format: fields with case-insensitive names, and continuation lines that begin
    /// with a blank.
    static func uris(deb822 text: String) -> [String] {
        var result: [String] = []
        var fields: [String: [String]] = [:]
        var last = ""
        func finish() {
            let enabled = fields["enabled"]?.first?.lowercased() ?? "yes"
            // As apt reads a boolean (apt-pkg's StringToBool).
            let isOff = ["no", "false", "without", "off", "disable", "0"].contains(enabled)
            if !isOff, fields["types"]?.contains("deb") == true { result += fields["uris"] ?? [] }
            fields = [:]
            last = ""
        }
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.hasPrefix("#") { continue }
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" }).map(String.init)
            if words.isEmpty {
                finish()
            } else if line.hasPrefix(" ") || line.hasPrefix("\t") {
                fields[last, default: []] += words
            } else if let colon = line.firstIndex(of: ":") {
                last = line[..<colon].lowercased()
                fields[last] = line[line.index(after: colon)...].split(whereSeparator: { $0 == " " || $0 == "\t" }).map(
                    String.init)
            }
        }
        finish()
        return result
    }
}
