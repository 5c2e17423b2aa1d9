import Digests
import Files
import Glibc
import Processes
import Transfers

/// Where Debian's archives are fetched from.
public struct Mirrors: Sendable, Hashable {
    /// The URL above `dists/` and `pool/` of the main archive, without a slash at its end.
    public var main: String
    /// Of the security archive.
    public var security: String
    /// apt's proxy for http, when the host has one.
    public var proxy: String?

    /// The mirrors that the host's own apt uses, or those that the caller names.
    ///
    /// A source of the host counts when it offers the wanted suite and its `InRelease` is signed by Debian's archive
    /// keyring: third parties and other distributions never do.
    public static func find(base: Definition.Base, mirror: String?, cache: Cache) throws -> Mirrors {
        let proxy = hostProxy()
        func trimmed(_ url: String) -> String { url.hasSuffix("/") ? trimmed(String(url.dropLast())) : url }
        let main = (mirror ?? base.mirror).map(trimmed)
        let security = base.securityMirror.map(trimmed) ?? main.map { $0 + "-security" }
        if let main, let security { return Mirrors(main: main, security: security, proxy: proxy) }
        let candidates = hostSources().map(trimmed)
        let found = try answer([base.suite, base.suite + "-security"], at: candidates, proxy: proxy, cache: cache)
        guard let main = main ?? found[0], let security = security ?? found[1] else {
            let wanted = found[0] == nil ? base.suite : base.suite + "-security"
            throw BuildFailure(
                "none of this host's apt sources offers Debian's \(wanted): "
                    + (candidates.isEmpty ? "there are none" : candidates.joined(separator: ", ")),
                hint: "--mirror URL, or base.mirror and base.security-mirror in the definition")
        }
        return Mirrors(main: main, security: security, proxy: proxy)
    }

    /// For each suite the first of `candidates` whose InRelease verifies.
    private static func answer(_ suites: [String], at candidates: [String], proxy: String?, cache: Cache) throws
        -> [String?]
    {
        let folder = try FileSystem.makeTemporaryDirectory(
            in: try cache.folder("apt"), prefix: FileSystem.temporaryPrefix + "probe")
        defer { try? FileSystem.remove(folder) }
        var downloads: [(suite: Int, candidate: String, download: Download)] = []
        for (s, suite) in suites.enumerated() {
            for (c, candidate) in candidates.enumerated() {
                downloads.append(
                    (s, candidate, Download(url: "\(candidate)/dists/\(suite)/InRelease", path: "\(folder)/\(s)-\(c)")))
            }
        }
        _ = try Transfers.fetch(downloads.map(\.download), proxy: proxy)
        var found: [String?] = suites.map { _ in nil }
        for (suite, candidate, download) in downloads where found[suite] == nil && FileSystem.exists(download.path) {
            if try Command("gpgv", ["--keyring", keyring, download.path]).run().status == 0 {
                found[suite] = candidate
            }
        }
        return found
    }

    /// Debian's archive keys; the package debian-archive-keyring brings them.
    static let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

    private static func hostProxy() -> String? {
        for name in ["http_proxy", "all_proxy"] {
            if let value = getenv(name).map({ String(cString: $0) }), !value.isEmpty { return value }
        }
        let text = try? Command("apt-config", ["shell", "PROXY", "Acquire::http::Proxy"]).run().text
        guard let value = text?.split(separator: "'", omittingEmptySubsequences: false).dropFirst().first else {
            return nil
        }
        return value.isEmpty || value == "DIRECT" ? nil : String(value)
    }

    /// The URIs of all package sources of the host, in order and once each (sources.list(5), both notations).
    private static func hostSources() -> [String] {
        let folder = "/etc/apt/sources.list.d"
        let files =
            ["/etc/apt/sources.list"] + ((try? FileSystem.list(folder)) ?? []).map { "\(folder)/\($0)" }
        var uris: [String] = []
        for file in files {
            guard let bytes = try? FileSystem.read(file) else { continue }
            let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n").filter { !$0.hasPrefix("#") }
            for line in lines {
                let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" }).map(String.init)
                if file.hasSuffix(".sources"), words.first?.lowercased() == "uris:" { uris += words.dropFirst() }
                if file.hasSuffix(".list"), words.first == "deb" {
                    uris += words.filter { $0.contains(":/") && !$0.hasPrefix("[") }.prefix(1)
                }
            }
        }
        var seen: Set<String> = []
        return uris.filter { uri in
            ["http://", "https://", "file:/"].contains { uri.hasPrefix($0) } && seen.insert(uri).inserted
        }
    }
}
