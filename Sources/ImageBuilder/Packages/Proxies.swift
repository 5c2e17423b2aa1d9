import Documents
import Files
import Glibc
import Processes
import Transfers

/// The proxies of the host: apt's configuration (apt-transport-http(1)), and the environment's
/// variables where apt has none.
public struct Proxies: Sendable, Hashable {
    /// Addresses by scheme, `http` and `https`.
    public var byScheme: [String: String] = [:]
    /// Addresses by scheme and host, such as `http::deb.example.org`; `DIRECT` for none.
    public var byHost: [String: String] = [:]
    /// Hosts and domains without a proxy, in the notation of `no_proxy`.
    public var exceptions: [String] = []
    /// A program that prints the proxy for a URL (Acquire::http::Proxy-Auto-Detect).
    public var detector: String?

    public init() {}

    /// The proxies of this host.
    public static func ofHost() -> Proxies {
        let dump = (try? Command("apt-config", ["dump", "--no-empty"]).run().text) ?? ""
        return Proxies(aptConfiguration: dump) { getenv($0).map { String(cString: $0) } }
    }

    /// - Parameters:
    ///   - text: what `apt-config dump` prints, lines of `NAME "VALUE";`.
    ///   - variable: a variable of the environment.
    init(aptConfiguration text: String, variable: (String) -> String?) {
        func environment(_ names: [String]) -> String? {
            names.compactMap(variable).first { !$0.isEmpty }
        }
        // HTTP_PROXY is ignored: a CGI program's environment has it from a request's header.
        byScheme["http"] = environment(["http_proxy", "all_proxy", "ALL_PROXY"])
        byScheme["https"] = environment(["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
        exceptions = (environment(["no_proxy", "NO_PROXY"]) ?? "").split(whereSeparator: { ", ".contains($0) }).map {
            String($0.drop { $0 == "." })
        }
        for line in text.split(separator: "\n") {
            guard let blank = line.firstIndex(of: " ") else { continue }
            let name = line[..<blank]
            let value = line[blank...].filter { !" \";".contains($0) }
            if value.isEmpty { continue }
            for scheme in ["http", "https"] {
                let prefix = "Acquire::\(scheme)::Proxy"
                if name == prefix { byScheme[scheme] = value }
                if name.hasPrefix(prefix + "::") { byHost["\(scheme)::\(name.dropFirst(prefix.count + 2))"] = value }
            }
            if name == "Acquire::http::Proxy-Auto-Detect" || name == "Acquire::http::ProxyAutoDetect" {
                detector = value
            }
        }
    }

    /// The proxy for a URL: empty for an explicit direct connection, nil when nothing is
    /// configured.
    public func proxy(for url: String) -> String? {
        guard let colon = url.firstRange(of: "://") else { return nil }
        let scheme = String(url[..<colon.lowerBound])
        let authority = url[colon.upperBound...].prefix { $0 != "/" }
        let host = String((authority.split(separator: "@").last ?? "").prefix { $0 != ":" })
        if let own = byHost["\(scheme)::\(host)"] { return own == "DIRECT" ? "" : own }
        if exceptions.contains(where: { $0 == "*" || host == $0 || host.hasSuffix("." + $0) }) { return "" }
        if scheme != "file", let detector {
            let answer = try? Command(detector, [url]).run().text.split(separator: "\n").first.map(String.init)
            if let answer, !answer.isEmpty { return answer == "DIRECT" ? "" : answer }
        }
        return byScheme[scheme].map { $0 == "DIRECT" ? "" : $0 }
    }

    /// Lines of apt.conf(5) that give apt the same proxies.
    var aptConfiguration: String {
        var lines = byScheme.sorted { $0.key < $1.key }.map { "Acquire::\($0.key)::Proxy \"\($0.value)\";" }
        lines += byHost.sorted { $0.key < $1.key }.map { name, value in
            let parts = name.split(separator: ":", maxSplits: 1).map(String.init)
            return "Acquire::\(parts[0])::Proxy::\(parts[1].drop { $0 == ":" }) \"\(value)\";"
        }
        lines += exceptions.flatMap { host in
            ["http", "https"].map { "Acquire::\($0)::Proxy::\(host) \"DIRECT\";" }
        }
        if let detector { lines.append("Acquire::http::Proxy-Auto-Detect \"\(detector)\";") }
        return lines.joined(separator: "\n")
    }

    /// Fetches files, each through the proxy for its URL.
    func fetch(
        _ downloads: [Download], progress: ((DownloadProgress) -> Void)? = nil
    ) throws -> [DownloadFailure] {
        // The proxy is the same for all files of a host, and there can be thousands of them.
        var known: [String: String?] = [:]
        var groups: [String?: [Download]] = [:]
        for download in downloads {
            let end = download.url.firstRange(of: "://").map { $0.upperBound } ?? download.url.startIndex
            let host = String(download.url[..<end]) + download.url[end...].prefix { $0 != "/" }
            let proxy = known[host] ?? self.proxy(for: download.url)
            known[host] = proxy
            groups[proxy, default: []].append(download)
        }
        var failures: [DownloadFailure] = []
        for (proxy, group) in groups.sorted(by: { ($0.key ?? "") < ($1.key ?? "") }) {
            failures += try Transfers.fetch(group, proxy: proxy, progress: progress)
        }
        return failures
    }
}
