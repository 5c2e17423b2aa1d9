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
    /// Programs by scheme that print the proxy for a host, given the URL of one of its files
    /// (`Acquire::http::Proxy-Auto-Detect`).
    public var detectors: [String: String] = [:]

    public init() {}

    /// - Parameter variable: a variable of the environment.
    init(_ configuration: AptConfiguration, variable: (String) -> String?) {
        func environment(_ names: [String]) -> String? {
            names.compactMap(variable).first { !$0.isEmpty }
        }
        // HTTP_PROXY is ignored: a CGI program's environment has it from a request's header.
        byScheme["http"] = environment(["http_proxy", "all_proxy", "ALL_PROXY"])
        byScheme["https"] = environment(["https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY"])
        exceptions = (environment(["no_proxy", "NO_PROXY"]) ?? "").split(whereSeparator: { ", ".contains($0) }).map {
            String($0.drop { $0 == "." })
        }
        var ofApt: [String: String] = [:]
        for (name, value) in configuration.values {
            for scheme in ["http", "https"] {
                let prefix = "acquire::\(scheme)::proxy"
                if name == prefix { ofApt[scheme] = value }
                if name.hasPrefix(prefix + "::") { byHost["\(scheme)::\(name.dropFirst(prefix.count + 2))"] = value }
                if name == prefix + "autodetect" { detectors[scheme] = detectors[scheme] ?? value }
                if name == prefix + "-auto-detect" { detectors[scheme] = value }
            }
        }
        // The options of https default to those of http, but for the detector
        // (apt-transport-https(1)).
        byScheme["http"] = ofApt["http"] ?? byScheme["http"]
        byScheme["https"] = ofApt["https"] ?? ofApt["http"] ?? byScheme["https"]
        for (name, value) in byHost where name.hasPrefix("http::") {
            let https = "https" + name.dropFirst("http".count)
            byHost[https] = byHost[https] ?? value
        }
    }

    /// The proxy for a URL: empty for an explicit direct connection, nil when nothing is
    /// configured.
    public func proxy(for url: String) -> String? {
        guard let (scheme, host) = Self.server(of: url) else { return nil }
        if exceptions.contains(where: { $0 == "*" || host == $0 || host.hasSuffix("." + $0) }) { return "" }
        let found = byHost["\(scheme)::\(host)"] ?? detected(url, scheme) ?? byScheme[scheme]
        return found == "DIRECT" ? "" : found
    }

    /// The answer of a detector. apt ignores an empty line, and kinds of proxies that its method
    /// does not have (apt-pkg/contrib/proxy.cc).
    private func detected(_ url: String, _ scheme: String) -> String? {
        guard let detector = detectors[scheme],
            let text = try? Command(detector, [URLUser.removed(from: url)]).run().text
        else { return nil }
        let answer = text.prefix { $0 != "\n" }.trimming { $0 == " " || $0 == "\t" }
        let isKnown = answer == "DIRECT" || ["http", "socks5h"].contains { answer.hasPrefix($0) }
        return isKnown ? answer : nil
    }

    /// The scheme and the host of a URL; nil for a text that is none.
    static func server(of url: String) -> (scheme: String, host: String)? {
        guard let colon = url.firstRange(of: "://") else { return nil }
        let authority = url[colon.upperBound...].prefix { $0 != "/" }
        let server = authority.split(separator: "@").last ?? ""
        let host = server.hasPrefix("[") ? server.prefix { $0 != "]" } + "]" : server.prefix { $0 != ":" }
        return (String(url[..<colon.lowerBound]), host.lowercased())
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
        lines += detectors.sorted { $0.key < $1.key }.map { "Acquire::\($0.key)::Proxy-Auto-Detect \"\($0.value)\";" }
        return lines.joined(separator: "\n")
    }
}
