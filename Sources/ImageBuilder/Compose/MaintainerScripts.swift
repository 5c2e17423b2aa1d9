/// What a package's maintainer scripts would have done, as far as a builder that runs none of them must know.
struct MaintainerScripts {
    struct Alternative: Hashable {
        /// Absolute.
        var link: String
        var name: String
        /// Absolute.
        var path: String
        var priority: Int
    }

    struct Diversion: Hashable {
        /// The package whose file keeps the name.
        var package: String
        /// Without a leading slash.
        var path: String
        var to: String
    }

    struct Capability: Hashable {
        var path: String
        var capabilities: String
    }

    var alternatives: [Alternative] = []
    var diversions: [Diversion] = []
    var capabilities: [Capability] = []
    /// Commands that are neither replaced nor known to be harmless.
    var unknown: [String] = []

    /// Packages whose scripts were read by a person, and what makes them harmless here.
    static let known: [String: String] = [
        "base-files": "makes folders of /var and links of /etc that the builder makes",
        "base-passwd": "writes passwd and group, which the builder does",
        "bash": "sets /bin/sh up on old releases and copies dot files",
        "dash": "moves from the diversions of old releases",
        "libc6": "restarts daemons on upgrades",
        "libc-bin": "runs ldconfig, whose folders are all default ones",
        "e2fsprogs": "enables a timer of systemd",
        "chrony": "copies its configuration by ucf, and makes its user, which sysusers.d declares too",
        "dnsmasq-base": "makes its user, which the definition or sysusers.d declares",
        "dhcpcd-base": "makes its user, which sysusers.d declares",
        "passwd": "makes shadow files, which the builder does",
        "login": "moves configuration of old releases",
        "mawk": "registers an alternative of awk",
        "linux-image": "writes links to the kernel and runs hooks of initramfs-tools",
        "libpam-runtime": "writes pam.d by pam-auth-update",
        "netbase": "copies /etc files of old releases",
        "nftables": "disables its service of systemd",
        "dbus": "restarts nothing on an image",
        "openssl": "moves configuration of old releases",
        "libssl3t64": "restarts daemons on upgrades",
        "ca-certificates": "collects certificates by update-ca-certificates",
        "openssh-client": "makes a group for ssh-agent, which nobody starts on a box",
        "openssh-server": "makes host keys and sshd_config, which the plugin system does on the box",
        "libpam0g": "restarts daemons on upgrades",
        "libpam-modules": "asks about modules of old releases",
        "libwrap0": "makes /etc/hosts.allow and hosts.deny of comments alone",
        "libwtmpdb0": "moves a database of old releases",
        "login.defs": "takes over a file of old releases",
        "rsyslog": "tidies up after old releases, and sets the mode of a folder of /var",
        "procps": "sets sysctls, which PID 1 does",
        "libselinux1": "removes what old releases left",
        "libgssapi-krb5-2": "copies a file of old releases",
        "iproute2": "sets capabilities that debconf asks for, none by default",
    ]

    /// Sections that debhelper adds for what an image has no use for or the builder does itself.
    private static let harmlessHelpers = [
        "dh_installinit", "dh_installsystemd", "dh_installsystemduser", "dh_systemd_enable", "dh_systemd_start",
        "dh_installdeb", "dh_makeshlibs", "dh_installsysusers", "dh_installtmpfiles", "dh_installudev", "dh_ucf",
        "dh_apparmor", "dh_installmenu", "dh_installman", "dh_python3", "dh_installdebconf", "dh_installmime",
        "dh_icons", "dh_installlogrotate", "dh_bash-completion", "dh_installcron", "dh_movetousr", "dh_installruntime",
        "dh_installalternatives", "dh_installxmlcatalogs", "dh_installinfo", "dh_runit",
    ]

    private static let harmlessCommands = [
        "set", "exit", "if", "then", "else", "elif", "fi", "case", "esac", "for", "do", "done", "while", "{", "}", ";;",
        "true", ":", "return", "shift", "echo", "printf", ".", "test", "[", "local", "umask", "db_version", "db_stop",
        "deb-systemd-helper", "deb-systemd-invoke", "invoke-rc.d", "update-rc.d", "systemctl", "ldconfig",
        "dpkg-trigger", "dpkg-maintscript-helper", "systemd-sysusers", "systemd-tmpfiles", "deluser",
        "update-initramfs", "udevadm", "dpkg", "which", "command",
        "linux-update-symlinks", "linux-run-hooks",
    ]

    /// Reads the scripts that would have run at a first installation.
    ///
    /// - Parameter package: the name; versions in kernel packages' names are ignored.
    mutating func read(_ script: String, package: String) {
        let isKnown = Self.known.keys.contains {
            package == $0 || package.hasPrefix($0 + "-") && $0 == "linux-image"
        }
        for line in Self.logicalLines(script) {
            for command in Self.commands(line) where !read(command, package: package) && !isKnown {
                if unknown.last != line { unknown.append(line) }
            }
        }
    }

    /// Takes note of one command.
    ///
    /// - Returns: false for one that is neither replaced nor known to be harmless.
    private mutating func read(_ words: [String], package: String) -> Bool {
        guard let first = words.first else { return true }
        let name = first.split(separator: "/").last.map(String.init) ?? first
        let arguments = Array(words.dropFirst())
        switch name {
        case "update-alternatives":
            return arguments.contains { ["--remove", "--remove-all", "--quiet"].contains($0) }
                && !arguments.contains("--install") || readAlternatives(arguments)
        case "dpkg-divert":
            // What undoes a diversion of an older release has nothing to undo in a new tree.
            return arguments.contains { ["--remove", "--list", "--truename"].contains($0) }
                || readDiversion(arguments, package: package)
        case "setcap":
            // What takes capabilities away has none to take in a new tree.
            if arguments.first == "-r" { return true }
            guard arguments.count > 1, arguments[1].hasPrefix("/") else { return false }
            capabilities.append(Capability(path: arguments[1], capabilities: arguments[0]))
            return true
        default: return Self.harmlessCommands.contains(name) || first.contains("=") || first.hasSuffix("()")
        }
    }

    /// The commands of a line, as words: parts between `&&`, `||`, `;` and the like, without what opens a block and
    /// without labels of `case`. What stands in quotes is one word.
    private static func commands(_ line: String) -> [[String]] {
        var commands: [[String]] = [[]]
        var word = ""
        var quote: Character?
        func end() {
            if !word.isEmpty { commands[commands.count - 1].append(word) }
            word = ""
        }
        for character in line {
            if let open = quote {
                if character == open { quote = nil } else { word.append(character) }
            } else if character == "\"" || character == "'" {
                quote = character
            } else if character == " " || character == "\t" {
                end()
            } else if ";&|".contains(character) {
                end()
                commands.append([])
            } else if character == ")", commands[commands.count - 1].isEmpty {
                // A label; one that closes something else does no harm here.
                word = ""
            } else {
                word.append(character)
            }
        }
        end()
        return commands.map { words in
            Array(
                words.drop { ["if", "then", "else", "elif", "!", "do", "while", "until", "{", "}", "("].contains($0) })
        }
    }

    /// Lines without comments, continuations joined, harmless sections of debhelper left out.
    private static func logicalLines(_ script: String) -> [String] {
        var lines: [String] = []
        var open = ""
        var skipping = false
        for raw in script.split(separator: "\n") {
            let line = raw.trimming { $0 == " " || $0 == "\t" }
            if line.hasPrefix("# Automatically added by ") {
                let helper = line.dropFirst("# Automatically added by ".count).prefix { $0 != "/" && $0 != " " }
                skipping = harmlessHelpers.contains(String(helper)) && helper != "dh_installalternatives"
            }
            if line.hasPrefix("# End automatically added section") { skipping = false }
            if skipping || line.isEmpty || line.hasPrefix("#") { continue }
            if line.hasSuffix("\\") {
                open += line.dropLast() + " "
                continue
            }
            lines.append(open + line)
            open = ""
        }
        return lines
    }

    /// `--install LINK NAME PATH PRIORITY [--slave LINK NAME PATH]…`
    ///
    /// - Returns: false when it isn't written out plainly.
    private mutating func readAlternatives(_ words: [String]) -> Bool {
        guard let start = words.firstIndex(of: "--install"), words.count > start + 4,
            let priority = Int(words[start + 4]), words[start + 3].hasPrefix("/"),
            !words.contains(where: { $0.contains("$") })
        else { return false }
        alternatives.append(
            Alternative(link: words[start + 1], name: words[start + 2], path: words[start + 3], priority: priority))
        for i in words.indices where words[i] == "--slave" && words.count > i + 3 {
            alternatives.append(
                Alternative(link: words[i + 1], name: words[i + 2], path: words[i + 3], priority: priority))
        }
        return true
    }

    /// `[--package NAME] [--rename] --divert TO [--add] PATH`
    ///
    /// - Returns: false when it isn't written out plainly.
    private mutating func readDiversion(_ words: [String], package: String) -> Bool {
        guard let divert = words.firstIndex(of: "--divert"), words.count > divert + 1,
            !words.contains(where: { $0.contains("$") })
        else { return false }
        let to = words[divert + 1]
        guard let path = words.last(where: { $0.hasPrefix("/") && $0 != to }), to.hasPrefix("/") else { return false }
        diversions.append(
            Diversion(package: package, path: String(path.dropFirst()), to: String(to.dropFirst())))
        return true
    }
}

extension StringProtocol {
    /// Without the characters at either end that `isUnwanted` names.
    func trimming(_ isUnwanted: (Character) -> Bool) -> String {
        var rest = self[...].drop(while: isUnwanted)
        while let last = rest.last, isUnwanted(last) { rest = rest.dropLast() }
        return String(rest)
    }
}
