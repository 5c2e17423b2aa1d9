import Files
import Glibc
import Processes
import Transfers

/// How the host's apt reaches servers: proxies, logins and certificates. Builds fetch as apt does.
public struct HostApt: Sendable, Hashable {
    var proxies: Proxies
    var logins: AptLogins
    private let configuration: AptConfiguration

    public init() { self.init(dump: "", logins: AptLogins()) { _ in nil } }

    /// The configuration of this host, with its environment.
    public static func ofHost() -> HostApt {
        func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
        let environment = variable("APT_CONFIG").map { ["APT_CONFIG": $0] } ?? [:]
        func apt(_ arguments: [String]) -> String {
            (try? Command("apt-config", arguments, environment: environment).run().text) ?? ""
        }
        // NAME='VALUE', a line each (apt-config(8)).
        let paths = apt(["shell", "FILE", "Dir::Etc::netrc/f", "PARTS", "Dir::Etc::netrcparts/d"])
        func path(_ name: String) -> String? {
            let line = paths.split(separator: "\n").first { $0.hasPrefix("\(name)='") && $0.hasSuffix("'") }
            return line.map { String($0.dropFirst(name.count + 2).dropLast()) }
        }
        var files = path("FILE").map { [$0] } ?? []
        if let folder = path("PARTS") {
            let names = ((try? FileSystem.list(folder)) ?? []).filter { $0.hasSuffix(".conf") && !$0.hasPrefix(".") }
            files += names.sorted().map { folder.hasSuffix("/") ? folder + $0 : "\(folder)/\($0)" }
        }
        // apt, too, ignores a file that its user may not read.
        let texts = files.compactMap { try? FileSystem.read($0) }.map { String(decoding: $0, as: UTF8.self) }
        return HostApt(dump: apt(["dump", "--no-empty"]), logins: AptLogins(files: texts), variable: variable)
    }

    /// - Parameters:
    ///   - dump: what `apt-config dump` prints.
    ///   - variable: a variable of the environment.
    init(dump: String, logins: AptLogins, variable: (String) -> String?) {
        configuration = AptConfiguration(dump: dump)
        self.logins = logins
        proxies = Proxies(configuration, variable: variable)
    }

    // MARK: - The project's own transfers

    /// Fetches files, each with the options of its server.
    func fetch(
        _ downloads: [Download], progress: ((DownloadProgress) -> Void)? = nil
    ) throws -> [DownloadFailure] {
        // apt, too, starts a detector once for each scheme and host, with the first file's URL, and
        // uses the answer for the host's other files and ports (proxy.cc sets Proxy::HOST).
        var known: [String: String?] = [:]
        return try Transfers.fetch(
            downloads, progress: progress,
            server: { url in
                let server = Proxies.server(of: url).map { "\($0.scheme)://\($0.host)" } ?? ""
                let proxy = known[server] ?? proxies.proxy(for: url)
                known[server] = proxy
                return options(for: url, proxy: proxy)
            })
    }

    func options(for url: String, proxy: String?) -> ServerOptions {
        var options = ServerOptions(proxy: proxy)
        options.login = URLUser.login(in: url) ?? logins.login(for: url)
        guard let (scheme, host) = Proxies.server(of: url), scheme == "https" else { return options }
        options.clientCertificate = configuration.https("SslCert", host: host)
        options.clientKey = configuration.https("SslKey", host: host)
        options.trustAnchors = configuration.https("CaInfo", host: host)
        options.revocations = configuration.https("CrlFile", host: host)
        options.verifiesPeer = AptConfiguration.boolean(configuration.https("Verify-Peer", host: host)) ?? true
        options.verifiesHost = AptConfiguration.boolean(configuration.https("Verify-Host", host: host)) ?? true
        return options
    }

    // MARK: - apt with a private root

    private static let options = ["sslcert", "sslkey", "cainfo", "crlfile", "verify-peer", "verify-host"]

    /// Lines of apt.conf(5) that give an apt with a private root the same options.
    ///
    /// - Parameter folder: gets the logins, for this user only.
    func configuration(in folder: String) throws -> String {
        let parts = "\(folder)/auth.conf.d"
        try FileSystem.makeDirectory(parts)
        for (index, text) in logins.files.enumerated() {
            try FileSystem.replace("\(parts)/\(String(index + 1000)).conf", with: text, mode: 0o600)
        }
        var lines = [
            proxies.aptConfiguration, "Dir::Etc::netrc \"/dev/null\";", "Dir::Etc::netrcparts \"\(parts)/\";",
        ]
        for (name, value) in configuration.values.sorted(by: { $0.key < $1.key }) {
            let words = name.split(separator: ":", omittingEmptySubsequences: true).map(String.init)
            guard words.count > 2, words[0] == "acquire", ["http", "https"].contains(words[1]) else { continue }
            if Self.options.contains(words[2]) {
                // The form that apt reads.
                let host = words.count > 3 ? "\(words[3])::" : ""
                lines.append("Acquire::\(words[1])::\(host)\(words[2]) \"\(value)\";")
            } else if words.count > 3, Self.options.contains(words[3]) {
                lines.append("Acquire::\(words[1])::\(words[2])::\(words[3]) \"\(value)\";")
            }
        }
        return lines.joined(separator: "\n")
    }
}
