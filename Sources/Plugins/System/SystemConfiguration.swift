import PluginKit

/// `system:` of a site document.
public struct SystemConfiguration: Sendable {
    struct User {
        var name: String
        var role: Role
        var keys: [String]
        var passwordHash: String?
        /// Given, or made of the name.
        var number: Int
    }

    struct SSH {
        var interfaces: [Located<String>]
        var port: Int
        /// Empty for all hosts of the interfaces.
        var sources: [IPRange]
        var takesPasswords: Bool
    }

    struct Time {
        var pools: [String] = []
        var servers: [String] = []
        /// Whether all of them must prove who they are, by Network Time Security (RFC 8915).
        var usesNTS = false
        /// Certificates in PEM that vouch for them; nil for the image's.
        var authority: String?
        /// Interfaces whose hosts may ask the box for the time.
        var served: [Located<String>] = []
    }

    struct Collector {
        enum Transport: String, CaseIterable { case tcp, tls }

        var name: String
        var server: String
        var port: Int
        var transport: Transport
        /// Certificates in PEM of those who may vouch for the server.
        var authority: String?
        /// What its certificate must be made out to.
        var certificateName: String
    }

    var hostName: String?
    var banner: String?
    var users: [Located<User>]
    var ssh: SSH?
    var hasConsoleLogin: Bool
    var time: Time
    var collectors: [Located<Collector>]

    /// Whether somebody can log in by SSH, and at a console.
    var hasSSHUser: Bool {
        guard let ssh else { return false }
        return users.contains { !$0.value.keys.isEmpty || ssh.takesPasswords && $0.value.passwordHash != nil }
    }

    var hasConsoleUser: Bool { hasConsoleLogin && users.contains { $0.value.passwordHash != nil } }
}

extension SystemConfiguration {
    static var shape: Shape<SystemConfiguration> {
        .mapping("the box itself, and who may use it") { fields in
            let hostName = fields.optional("hostname", label)
            let banner = fields.optional("banner", lines)
            let users = fields.optional("users", .list(of: user.located)) ?? []
            let ssh = fields.optional("ssh", Self.ssh)
            let console = fields.optional(
                "console",
                Shape<Bool>.mapping("the box's consoles") { $0.optional("login", .boolean) ?? false })
            let time = fields.optional("time", Self.time)
            let collectors = fields.optional("syslog", .list(of: collector.located)) ?? []
            // The engine reads it, on a box that runs from a stick.
            _ = fields.optional("install-to", disk)
            fields.problems.checkUnique(users, "user") { $0.name }
            fields.problems.checkUnique(collectors, "collector") { $0.name }
            checkNumbers(of: users, fields.problems)
            return SystemConfiguration(
                hostName: hostName, banner: banner, users: users, ssh: ssh, hasConsoleLogin: console ?? false,
                time: time ?? Time(pools: ["2.debian.pool.ntp.org"]), collectors: collectors)
        }
    }

    private static func checkNumbers(of users: [Located<User>], _ problems: ProblemList) {
        var owners: [Int: String] = [:]
        for user in users {
            guard let owner = owners.updateValue(user.value.name, forKey: user.value.number),
                owner != user.value.name
            else { continue }
            problems.add(
                user.problem(
                    "the users \(owner) and \(user.value.name) have the same number \(user.value.number)",
                    hint: "give one of them another uid, from \(numbers.lowerBound) to \(numbers.upperBound)"))
        }
    }

    // MARK: - Texts

    private static var disk: Shape<String> {
        .text("blank, for the only disk on which nothing is, or a disk's serial number") { text in
            (1...64).contains(text.utf8.count) && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
        }
    }

    private static var label: Shape<String> {
        .text("a host's name: letters, digits and hyphens, 63 at most") { text in
            (1...63).contains(text.utf8.count) && text.first != "-" && text.last != "-"
                && text.utf8.allSatisfy { isLetterOrDigit($0) || $0 == 0x2D }
        }
    }

    /// A name in the DNS, or an address.
    private static var host: Shape<String> {
        .text("a host's name or an address") { text in
            (1...253).contains(text.utf8.count) && text.first != "-"
                && text.utf8.allSatisfy { isLetterOrDigit($0) || [0x2D, 0x2E, 0x3A].contains($0) }
        }
    }

    private static func isLetterOrDigit(_ byte: UInt8) -> Bool {
        (0x61...0x7A).contains(byte) || (0x41...0x5A).contains(byte) || (0x30...0x39).contains(byte)
    }

    private static var lines: Shape<String> {
        .text("lines without control characters, 4096 bytes at most") { text in
            text.utf8.count <= 4096 && text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F || $0 == 0x0A }
        }
    }

    // MARK: - People

    private static let numbers = 10_000...59_999

    /// The same for a name on all boxes.
    private static func number(of name: String) -> Int {
        numbers.lowerBound + Int(name.fnv1a >> 16 % UInt64(numbers.count))
    }

    private static var user: Shape<User> {
        .mapping("a user") { fields in
            let name = fields.required("name", loginName)
            let role = fields.required(
                "role", Shape.oneOf(Role.allCases.map(\.rawValue)).map { Role(rawValue: $0) })
            let keys = fields.optional("ssh-keys", .list(of: .sshPublicKey)) ?? []
            let hash = fields.optional("password-hash", passwordHash)
            let number = fields.optional("uid", .integer(numbers))
            guard let name, let role else { return nil }
            return User(
                name: name, role: role, keys: keys, passwordHash: hash, number: number ?? Self.number(of: name))
        }
    }

    private static var loginName: Shape<String> {
        .text("a name of lower-case letters, digits and hyphens, at most 31, starting with a letter") { text in
            guard let first = text.utf8.first, (0x61...0x7A).contains(first), text.utf8.count <= 31 else {
                return false
            }
            return text != "root"
                && text.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D }
        }
    }

    /// Of crypt(5), by the methods that Debian 13 takes for strong.
    private static var passwordHash: Shape<String> {
        .text("a hash as \"openssl passwd -6\" or mkpasswd prints it, beginning with $6$, $y$, $gy$ or $7$") { text in
            ["$6$", "$y$", "$gy$", "$7$"].contains { text.hasPrefix($0) } && text.utf8.count >= 20
                && text.utf8.allSatisfy { isLetterOrDigit($0) || [0x24, 0x2E, 0x2F, 0x3D, 0x2C].contains($0) }
        }
    }

    // MARK: - Ways in, and out

    private static var ssh: Shape<SSH> {
        .mapping("how the box is reached by SSH") { fields in
            let interfaces = fields.required("interfaces", .list(of: Shape.text.located)) ?? []
            let port = fields.optional("port", .integer(1...65535)) ?? 22
            let sources = fields.optional("sources", .list(of: .addresses)) ?? []
            let passwords = fields.optional("passwords", .boolean) ?? false
            fields.refuseEmptyLists(["sources"])
            return SSH(interfaces: interfaces, port: port, sources: sources, takesPasswords: passwords)
        }
    }

    private static var time: Shape<Time> {
        .mapping("where the time comes from, and who gets it") { fields in
            let time = Time(
                pools: fields.optional("pools", .list(of: host)) ?? [],
                servers: fields.optional("servers", .list(of: host)) ?? [],
                usesNTS: fields.optional("nts", .boolean) ?? false, authority: fields.optional("ca", certificates),
                served: fields.optional("served", .list(of: Shape.text.located)) ?? [])
            if time.authority != nil, !time.usesNTS {
                fields.problems.add(fields.node, "\(fields.path).ca", "ca is for nts: true", hint: "add nts: true")
            }
            return time
        }
    }

    private static var collector: Shape<Collector> {
        .mapping("where logs go") { fields in
            let name = fields.required("name", .name)
            let server = fields.required("server", host)
            let port = fields.optional("port", .integer(1...65535))
            let transport =
                fields.optional(
                    "protocol",
                    Shape.oneOf(Collector.Transport.allCases.map(\.rawValue)).map { Collector.Transport(rawValue: $0) })
                ?? .tls
            let authority = fields.optional("ca", certificates)
            let certificateName = fields.optional("certificate-name", host)
            if transport == .tls, authority == nil, !fields.has("ca") {
                fields.problems.add(
                    fields.node, fields.path, "TLS without ca: nobody vouches for the server",
                    hint: "ca takes the certificates, in PEM, of those who do")
            }
            guard let name, let server else { return nil }
            return Collector(
                name: name, server: server, port: port ?? (transport == .tls ? 6514 : 514), transport: transport,
                authority: authority, certificateName: certificateName ?? server)
        }
    }

    private static var certificates: Shape<String> {
        .text("certificates in PEM") { text in
            text.hasPrefix("-----BEGIN CERTIFICATE-----\n") && text.utf8.count <= 65_536
                && text.utf8.allSatisfy { $0 == 0x0A || (0x20...0x7E).contains($0) }
        }
    }
}
