import Transfers

/// Users and passwords of servers: apt_auth.conf(5), and the URIs of sources.list(5).
struct AptLogins: Sendable, Hashable, CustomReflectable {
    /// The texts of the files, in apt's order. apt searches each for the first machine that
    /// matches.
    var files: [String] = []

    /// Logs and errors must not show a password.
    var customMirror: Mirror { Mirror(self, children: [:]) }

    /// Adds the login of a source's URI.
    mutating func add(_ login: ServerOptions.Login, for url: String) {
        // The format has no quotes.
        guard ![login.user, login.password].contains(where: { $0.isEmpty || $0.contains(where: \.isWhitespace) }) else {
            return
        }
        files.insert("machine \(url) login \(login.user) password \(login.password)\n", at: 0)
    }

    /// The login for a URL; nil if no file has one.
    func login(for url: String) -> ServerOptions.Login? {
        guard let colon = url.firstRange(of: "://") else { return nil }
        let scheme = String(url[..<colon.lowerBound])
        let rest = url[colon.upperBound...]
        let authority = rest.prefix { $0 != "/" }
        for file in files {
            let login = Self.login(in: file, scheme, String(authority), path: String(rest.dropFirst(authority.count)))
            if let login { return login }
        }
        return nil
    }

    /// The login of a file's first machine that matches, by the rules of apt-pkg/contrib/netrc.cc.
    private static func login(
        in file: String, _ scheme: String, _ authority: String, path: String
    ) -> ServerOptions.Login? {
        let host = authority.prefix { $0 != ":" }
        func matches(_ machine: Substring) -> Bool {
            var machine = machine
            if machine.contains("://") {
                guard machine.hasPrefix("\(scheme)://") else { return false }
                machine = machine.dropFirst(scheme.count + 3)
            } else if scheme != "https" {
                // A password is sent in plain text only if the entry says so.
                return false
            }
            return machine.contains("/")
                ? "\(authority)\(path)".hasPrefix(machine) : machine == host || machine == authority
        }
        var words = file.split(whereSeparator: { " \t\n\r".contains($0) })[...]
        while let word = words.popFirst() {
            guard word == "machine", let machine = words.popFirst(), matches(machine) else { continue }
            var login = ServerOptions.Login(user: "", password: "")
            while let word = words.popFirst(), word != "machine" {
                if word == "login" { login.user = words.popFirst().map(String.init) ?? "" }
                if word == "password" { login.password = words.popFirst().map(String.init) ?? "" }
            }
            return login.user.isEmpty && login.password.isEmpty ? nil : login
        }
        return nil
    }
}
