import PluginKit

/// The box itself: its name and time, who may use it, by SSH and console, and where its logs go.
public enum System: Plugin {
    public static let manifest = PluginManifest(
        name: "system", version: "0.1.0", summary: "Users, SSH, consoles, time, logs", key: "system",
        yang: "vcpe-system.yang", publishes: ["openings", "names"], reads: ["interfaces"], facts: ["consoles"],
        access: [.login: ["system-sshd", "system-console-*"]],
        permissions: Permissions(
            programs: [
                "/usr/bin/chronyc -c", "/usr/bin/ssh-keygen -q", "/usr/sbin/chronyd -p", "/usr/sbin/rsyslogd -N1",
                "/usr/sbin/sshd -t",
            ],
            services: [
                // They become the users that they log in.
                "system-sshd": .init(
                    ["/usr/sbin/sshd"], users: ["root"],
                    capabilities: loginCapabilities + ["net_bind_service", "sys_chroot"],
                    systemCalls: [.users, .chroot], devices: ["pts", "tty"], visible: loginSockets,
                    writable: ["/run/sshd"], isLogin: true),
                "system-console-*": .init(
                    ["/usr/sbin/agetty"], users: ["root"], capabilities: loginCapabilities + ["sys_tty_config"],
                    systemCalls: [.users], devices: ["tty*", "hvc*"], visible: loginSockets,
                    allows: [.ownProcesses], isLogin: true),
                "system-syslog": .init(
                    ["/usr/sbin/rsyslogd"], users: ["vcpe-syslog"], capabilities: ["dac_read_search", "syslog"],
                    systemCalls: [.kernelLog], visible: ["/run/log", "/data/vcpe/audit"]),
                "system-chrony": .init(
                    ["/usr/sbin/chronyd"], users: ["_chrony"], capabilities: ["net_bind_service", "sys_time"],
                    systemCalls: [.clock]),
            ],
            sysctls: ["kernel/hostname"], openings: ["tcp 1-65535", "udp 123"]),
        state: [.init("state.services", of: "services"), .init("state.commits", of: "commits")],
        isAlwaysPlanned: true, locks: ["users", "install-to"],
        resources: ["file", "directory", "service", "sysctl", "secret", "setting"],
        features: [
            .init("time", packages: ["chrony"], users: ["_chrony": "/var/lib/chrony"]),
            .init("ssh", packages: ["libnss-extrausers", "openssh-server"], users: ["sshd": "/run/sshd"]),
            .init("console", packages: ["libnss-extrausers", "login", "util-linux"]),
            .init("syslog", packages: ["rsyslog", "rsyslog-openssl"], users: ["vcpe-syslog": "/nonexistent"]),
        ],
        commands: [.init(.show, "time", "Where the time comes from", inputs: [.program(sources, user: "_chrony")])])

    public static var configuration: Shape<SystemConfiguration> { SystemConfiguration.shape }

    private static let run = "/run/vcpe/system"
    private static let data = "/data/system"

    public static func publish(_ configuration: SystemConfiguration, facts: Facts, into output: inout PublishOutput) {
        if let name = configuration.hostName { output.add(name: name) }
        if let ssh = configuration.ssh {
            for interface in Set(ssh.interfaces.map(\.value)).sorted() {
                output.add(
                    Opening(
                        name: "system.ssh-\(interface)", interface: interface, transport: .tcp, port: ssh.port,
                        sources: ssh.sources))
            }
        }
        for interface in Set(configuration.time.served.map(\.value)).sorted() {
            output.add(Opening(name: "system.time-\(interface)", interface: interface, transport: .udp, port: 123))
        }
    }

    public static func plan(_ configuration: SystemConfiguration, input: PlanInput, into output: inout PlanOutput) {
        output.add(DirectoryResource(path: run, owner: "root", mode: 0o755))
        output.add(DirectoryResource(path: data, owner: "root", mode: 0o755))
        if let name = configuration.hostName {
            output.add(SysctlResource(key: "kernel/hostname", value: name), at: "hostname")
        }
        planUsers(configuration, into: &output)
        if !configuration.hasSSHUser, !configuration.hasConsoleUser {
            output.add(
                SettingResource.notice(
                    "Nobody can log in on this box. Plug in a USB stick whose file system is labelled vcpe-site and holds "
                        + "site.yaml, a site document with system.users."))
        }
        planSSH(configuration, input: input, into: &output)
        planConsoles(configuration, input: input, into: &output)
        planTime(configuration.time, input: input, into: &output)
        planLogs(configuration.collectors.map(\.value), of: configuration.hostName, into: &output)
    }

    private static func text(_ lines: [String]) -> String { lines.map { $0 + "\n" }.joined() }

    /// What is written in front of a login.
    private static func banner(of configuration: SystemConfiguration) -> String {
        guard let banner = configuration.banner else { return "" }
        return banner.last == "\n" ? banner : banner + "\n"
    }

    // MARK: - Users

    /// As the box's name service takes them beside those of the image (libnss-extrausers).
    private static func planUsers(_ configuration: SystemConfiguration, into output: inout PlanOutput) {
        let users = configuration.users.map(\.value).sorted { $0.name < $1.name }
        guard !users.isEmpty else { return }
        let folder = "\(run)/users"
        output.add(DirectoryResource(path: folder, owner: "root", mode: 0o755))
        output.add(DirectoryResource(path: "\(run)/keys", owner: "root", mode: 0o755))
        let passwd = users.map {
            "\($0.name):x:\($0.number):\($0.role.group.number):\($0.role.rawValue):/:/usr/bin/vcpectl"
        }
        // Everybody may look, whatever else he may.
        let (all, group) = (users.map(\.name).joined(separator: ","), Role.readOnly.group)
        let groups = ["\(group.name):x:\(group.number):\(all)"]
        let shadow = users.map { "\($0.name):\($0.passwordHash ?? "*"):::::::" }
        for (name, content, mode) in [
            ("passwd", text(passwd), 0o644), ("group", text(groups), 0o644), ("shadow", text(shadow), 0o600),
        ] {
            output.add(FileResource(path: "\(folder)/\(name)", content: content, owner: "root", mode: mode))
        }
        for user in users where !user.keys.isEmpty {
            output.add(
                FileResource(path: "\(run)/keys/\(user.name)", content: text(user.keys), owner: "root", mode: 0o644))
        }
    }

    // MARK: - SSH

    private static func planSSH(
        _ configuration: SystemConfiguration, input: PlanInput, into output: inout PlanOutput
    ) {
        guard let ssh = configuration.ssh else { return }
        for interface in ssh.interfaces {
            _ = output.interface(interface.value, at: interface.path, in: input.published)
        }
        if !configuration.hasSSHUser {
            output.say(
                .warning, path: "ssh", "no user can log in by SSH", hint: "users have ssh-keys, or passwords: true")
        }
        let (file, key, banner) = ("\(run)/sshd_config", "\(run)/host-key", "\(run)/banner")
        let yesOrNo = ssh.takesPasswords ? "yes" : "no"
        let lines = [
            "# Written by vcpe's plugin system.", "Port \(ssh.port)", "HostKey \(key)",
            "AuthorizedKeysFile \(run)/keys/%u", "PermitRootLogin no", "PasswordAuthentication \(yesOrNo)",
            "KbdInteractiveAuthentication no", "UsePAM no",
            "AllowGroups \(Role.allCases.map(\.group.name).joined(separator: " "))",
            // A box is no way into the networks behind it.
            "DisableForwarding yes", "PermitUserRC no", "PermitUserEnvironment no",
            "Banner \(banner)", "PrintMotd no", "PrintLastLog no", "PidFile none", "LoginGraceTime 60",
            "MaxAuthTries 4", "MaxStartups 10:30:60", "ClientAliveInterval 60", "ClientAliveCountMax 5",
            // PID 1 counts sessions: a connection without one takes the place of others.
            "MaxSessions 4", "UnusedConnectionTimeout 30",
        ]
        output.add(
            SecretResource(
                name: "system.ssh-host-key",
                .program(["/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", "${file}"])))
        output.add(FileResource(path: key, content: "${secret:system.ssh-host-key}", owner: "root", mode: 0o600))
        output.add(FileResource(path: banner, content: Self.banner(of: configuration), owner: "root", mode: 0o644))
        output.add(
            FileResource(
                path: file, content: text(lines), owner: "root", mode: 0o644,
                check: ["/usr/sbin/sshd", "-t", "-f", file]), at: "ssh")
        // It is root: it logs users in, each as that user.
        // Who is logged in stays so when this changes, as the one who changes it may be.
        output.add(
            ServiceResource(
                name: "system-sshd", command: ["/usr/sbin/sshd", "-D", "-e", "-f", file],
                capabilities: loginCapabilities + ["net_bind_service", "sys_chroot"],
                directories: ["/run/sshd"], configurationFiles: [key], reloadFiles: [file], memory: 128 << 20,
                class: .login,
                profile: .init(
                    visible: loginSockets, devices: ["pts", "tty"], systemCalls: [.users, .chroot]),
                access: [.login]),
            at: "ssh")
    }

    /// For a login, to become its user.
    private static let loginCapabilities = [
        "audit_write", "chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid",
    ]

    /// Where the verbs of vcpectl ask.
    private static let loginSockets = ["/run/vcpe/api", "/run/vcpe/upgrade"]

    // MARK: - Consoles

    private static func planConsoles(
        _ configuration: SystemConfiguration, input: PlanInput, into output: inout PlanOutput
    ) {
        guard configuration.hasConsoleLogin else { return }
        if !configuration.hasConsoleUser {
            output.say(
                .warning, path: "console", "no user can log in at the console", hint: "users have a password-hash")
        }
        let issue = "\(run)/issue"
        // agetty reads a backslash as the beginning of something else.
        let banner = Self.banner(of: configuration).map { $0 == "\\" ? "\\\\" : String($0) }.joined()
        output.add(FileResource(path: issue, content: banner + "\\n on \\l\n", owner: "root", mode: 0o644))
        // They are root: they log users in, each as that user.
        for console in input.facts.consoles {
            output.add(
                ServiceResource(
                    name: "system-console-\(console)",
                    command: [
                        "/usr/sbin/agetty", "--noreset", "--noclear", "--issue-file", issue, "--local-line",
                        "--keep-baud", console, "115200,57600,38400,9600",
                        console.hasPrefix("tty") && console.dropFirst(3).allSatisfy(\.isNumber) ? "linux" : "vt220",
                    ],
                    capabilities: loginCapabilities + ["sys_tty_config"], memory: 64 << 20, class: .login,
                    profile: .init(
                        visible: loginSockets + [run], devices: [console, "tty"], systemCalls: [.users],
                        // PAM notes the login's user.
                        permissions: [.ownProcesses]),
                    access: [.login]), at: "console")
        }
    }

    // MARK: - Time

    private static func planTime(
        _ time: SystemConfiguration.Time, input: PlanInput, into output: inout PlanOutput
    ) {
        let file = "\(run)/chrony.conf"
        var lines = ["# Written by vcpe's plugin system."]
        let proof = time.usesNTS ? " nts" : ""
        lines += time.pools.map { "pool \($0) iburst\(proof)" } + time.servers.map { "server \($0) iburst\(proof)" }
        var files = [file]
        if time.usesNTS {
            // A box without a battery starts before any certificate is valid: the first answer sets
            // its clock. Cookies are kept, so that a restart needs no new keys.
            lines += ["nocerttimecheck 1", "ntsdumpdir \(data)/chrony"]
        }
        if let authority = time.authority {
            let path = "\(run)/nts.pem"
            output.add(FileResource(path: path, content: authority, owner: "root", mode: 0o644), at: "time.ca")
            lines.append("ntstrustedcerts \(path)")
            files.append(path)
        }
        lines += [
            "driftfile \(data)/chrony/drift", "makestep 1 3", "rtcsync", "cmdport 0", "bindcmdaddress \(commandSocket)",
            "pidfile \(run)/chrony/pid",
        ]
        for name in time.served {
            guard let interface = output.interface(name.value, at: name.path, in: input.published) else { continue }
            lines += interface.addresses.map { "allow \($0.network)" }
        }
        output.add(DirectoryResource(path: "\(data)/chrony", owner: "_chrony", mode: 0o755))
        output.add(DirectoryResource(path: "\(run)/chrony", owner: "_chrony", mode: 0o750))
        output.add(
            FileResource(
                path: file, content: text(lines), owner: "root", mode: 0o644,
                check: ["/usr/sbin/chronyd", "-p", "-f", file]), at: "time")
        output.add(
            ServiceResource(
                name: "system-chrony",
                // Its own system-call filter, as Debian's unit has it, within PID 1's.
                command: ["/usr/sbin/chronyd", "-U", "-d", "-F", "1", "-f", file],
                user: "_chrony", capabilities: ["net_bind_service", "sys_time"],
                configurationFiles: files, memory: 64 << 20,
                profile: .init(writable: ["\(data)/chrony", "\(run)/chrony"], systemCalls: [.clock])),
            at: "time")
    }

    private static let commandSocket = "\(run)/chrony/socket"

    /// Lines of chronyc(1), fields between commas.
    private static let sources = ["/usr/bin/chronyc", "-c", "-h", commandSocket, "sources"]

    public static func show(
        _ command: String, _ configuration: SystemConfiguration, input: CommandInput, into output: inout ShowOutput
    ) {
        output.columns = ["source", "state", "stratum", "reach", "offset (s)"]
        let states = [
            "*": "followed", "+": "good", "-": "not needed", "?": "no answer", "x": "wrong", "~": "unsteady",
        ]
        for line in (input.programs[sources.joined(separator: " ")] ?? "").split(separator: "\n") {
            let fields = line.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
            guard fields.count >= 9 else { continue }
            output.add(
                .text(fields[2]), .text(states[fields[1]] ?? fields[1]), .integer(Int(fields[3]) ?? 0),
                .text(fields[5]),
                .text(fields[8]))
        }
    }

    private static let syslogUser = "vcpe-syslog"

    // MARK: - Logs

    private static func planLogs(
        _ collectors: [SystemConfiguration.Collector], of name: String?, into output: inout PlanOutput
    ) {
        guard !collectors.isEmpty else { return }
        // It reads the box's name only when it starts.
        let hostName = name.map { " localHostname=\"\($0)\"" } ?? ""
        let (file, work) = ("\(run)/rsyslog.conf", "\(run)/syslog")
        var lines = [
            "# Written by vcpe's plugin system.",
            "global(workDirectory=\"\(work)\" maxMessageSize=\"8k\"\(hostName))",
            "module(load=\"imfile\")",
            // First, and by a ruleset of its own: no other log delays it. 104 is facility 13, "log
            // audit" (RFC 5424).
            "input(type=\"imfile\" file=\"/data/vcpe/audit/*\" tag=\"audit\" severity=\"notice\" facility=\"104\" "
                + "addMetadata=\"on\" ruleset=\"audit\")",
            // Everything that services say, and what they send to syslog, as PID 1 keeps it; what
            // it has put aside was sent before.
            "input(type=\"imfile\" file=\"/run/log/*\" tag=\"service\" severity=\"info\" facility=\"daemon\" "
                + "addMetadata=\"on\" reopenOnTruncate=\"on\")",
            "module(load=\"imklog\" permitNonKernelFacility=\"on\")",
            "template(name=\"service\" type=\"list\") {",
            "  constant(value=\"<\") property(name=\"pri\") constant(value=\">1 \")",
            "  property(name=\"timereported\" dateFormat=\"rfc3339\") constant(value=\" \") property(name=\"hostname\")",
            "  constant(value=\" \") property(name=\"$!metadata!filename\" field.delimiter=\"47\" field.number=\"4\")",
            "  constant(value=\" - - - \") property(name=\"msg\")",
            "}",
        ]
        lines += [
            "template(name=\"audit\" type=\"list\") {",
            "  constant(value=\"<\") property(name=\"pri\") constant(value=\">1 \")",
            "  property(name=\"timereported\" dateFormat=\"rfc3339\") constant(value=\" \") property(name=\"hostname\")",
            "  constant(value=\" audit - - - \") property(name=\"msg\")", "}",
        ]
        let putAside = "if re_match($!metadata!filename, '[.]1$') then stop"
        lines.append(putAside)
        var auditLines = ["ruleset(name=\"audit\") {", putAside]
        var configurationFiles = [file]
        for collector in collectors {
            var action =
                "type=\"omfwd\" target=\"\(collector.server)\" port=\"\(collector.port)\" protocol=\"tcp\" "
                + "TCP_Framing=\"octet-counted\" action.resumeRetryCount=\"-1\" queue.type=\"LinkedList\" "
                + "queue.size=\"10000\" queue.timeoutEnqueue=\"0\""
            if let authority = collector.authority, collector.transport == .tls {
                let path = "\(run)/syslog-\(collector.name).pem"
                output.add(FileResource(path: path, content: authority, owner: "root", mode: 0o644))
                configurationFiles.append(path)
                action +=
                    " streamDriver=\"ossl\" streamDriverMode=\"1\" streamDriverAuthMode=\"x509/name\" "
                    + "streamDriverPermittedPeers=\"\(collector.certificateName)\" streamDriver.CAFile=\"\(path)\""
            }
            auditLines.append("action(\(action) template=\"audit\")")
            lines += [
                "if $inputname == \"imfile\" then action(\(action) template=\"service\")",
                "else action(\(action) template=\"RSYSLOG_SyslogProtocol23Format\")",
            ]
        }
        lines += auditLines + ["}"]
        output.add(DirectoryResource(path: work, owner: syslogUser, mode: 0o700))
        output.add(
            FileResource(
                path: file, content: text(lines), owner: "root", mode: 0o644,
                check: ["/usr/sbin/rsyslogd", "-N1", "-f", file]), at: "syslog")
        output.add(
            ServiceResource(
                name: "system-syslog", command: ["/usr/sbin/rsyslogd", "-n", "-i", "NONE", "-f", file],
                user: syslogUser, capabilities: ["dac_read_search", "syslog"],
                configurationFiles: configurationFiles, memory: 64 << 20, class: .background,
                profile: .init(writable: [work], visible: ["/run/log", "/data/vcpe/audit"], systemCalls: [.kernelLog])),
            at: "syslog")
    }
}
