import Documents
import Planning
import PluginKit
import Testing

/// What a plan may ask for: its manifest is the ceiling, and for a third party there is one above
/// that.
@Suite struct PermissionTests {
    private static func manifest(_ permissions: Permissions, _ name: String = "evil") -> PluginManifest {
        var manifest = PluginManifest(
            name: name, version: "1", summary: "of a test", key: name, yang: "none", resources: ResourceTypes.kinds,
            features: [.init("base", modules: ["dummy"], users: ["evil": "/nonexistent"])])
        manifest.permissions = permissions
        return manifest
    }

    private func violations(
        _ line: JSON..., permissions: Permissions = Permissions(), isOwn: Bool = false
    ) throws -> [PermissionViolation] {
        try Self.manifest(permissions).violations(plan: line.map { try Resource($0) }, isOwn: isOwn)
    }

    private static func service(_ more: [String: JSON] = [:]) -> JSON {
        let service: [String: JSON] = [
            "kind": "service", "id": "evil-one", "name": "evil-one", "command": ["/usr/bin/one"], "user": "evil",
        ]
        return .object(service.merging(more) { $1 })
    }

    private static let granted = Permissions(services: ["evil-*": .init(["/usr/bin/one"], users: ["evil"])])

    private func missing(_ violations: [PermissionViolation]) -> [Permissions.Grant] {
        violations.compactMap { if case .missing(let grant) = $0.reason { grant } else { nil } }
    }

    /// The manifest's line that each of a service's words would need.
    @Test(
        arguments: [
            ("capabilities", ["net_admin"]), ("system-calls", ["clock"]), ("families", ["packet"]),
            ("devices", ["tty1"]), ("visible", ["/run/log"]), ("writable", ["/var/lib/one"]),
            ("directories", ["/var/lib/one"]), ("allow", ["new-code"]),
        ] as [(String, [String])])
    func aServiceStaysWithinItsManifest(word: String, values: [String]) throws {
        #expect(try violations(Self.service(), permissions: Self.granted).isEmpty)
        let asked = Self.service([word: .texts(values)])
        let found = try violations(asked, permissions: Self.granted, isOwn: true)
        let key = word == "directories" ? "writable" : word
        #expect(missing(found) == [.init("permissions.services.evil-one.\(key)", .texts(values))], "\(found)")
        #expect(found.first?.plugin == "evil" && found.first?.resource == "service evil-one")
    }

    @Test func aServiceItsProgramAndItsUserAreTheManifests() throws {
        #expect(
            missing(try violations(Self.service())).first?.path == "permissions.services.evil-one")
        let other = try violations(Self.service(["command": ["/bin/sh"]]), permissions: Self.granted)
        #expect(missing(other) == [.init("permissions.services.evil-one.programs", ["/bin/sh"])])
        let reload = try violations(Self.service(["reload-command": ["/bin/sh"]]), permissions: Self.granted)
        #expect(missing(reload) == [.init("permissions.services.evil-one.programs", ["/bin/sh"])])
        let user = try violations(Self.service(["user": "daemon"]), permissions: Self.granted)
        #expect(missing(user) == [.init("permissions.services.evil-one.users", ["daemon"])])
        let login = try violations(Self.service(["class": "login"]), permissions: Self.granted)
        #expect(missing(login) == [.init("permissions.services.evil-one.class", "login")])
    }

    /// Whatever a manifest says, of a third party's plugin and of one of the project's own.
    @Test(
        arguments: [
            (["user": "root"], true), (["directories": ["/data/vcpe/secrets"]], true),
            (["writable": ["/run/vcpe/other"]], true),
            (["ready": "file /data/vcpe/victim"], false), (["configuration-files": ["/run/vcpe/upgrade/x"]], false),
            (["reload-files": ["/data/evil/../vcpe/x"]], false),
        ] as [([String: JSON], Bool)])
    func noManifestGrantsWhatIsTheBoxs(more: [String: JSON], isOnlyForeign: Bool) throws {
        let service = Permissions.Service(
            ["/usr/bin/one"], users: ["root", "evil"], writable: ["/data", "/run/vcpe"])
        let permissions = Permissions(services: ["evil-one": service])
        let found = try violations(Self.service(more), permissions: permissions)
        guard case .forbidden? = found.first?.reason, found.count == 1 else {
            Issue.record("\(found)")
            return
        }
        #expect(found.first?.resource == "service evil-one")
        let own = try violations(Self.service(more), permissions: permissions, isOwn: true)
        #expect(own.isEmpty == isOnlyForeign, "\(own)")
    }

    @Test func programsAreThePathAndTheFirstArgument() throws {
        let permissions = Permissions(programs: ["/bin/make -q", "/bin/any *", "/bin/bare"])
        func allowed(_ words: String...) throws -> Bool {
            try violations(
                ["kind": "secret", "id": "evil.key", "program": .texts(words)], permissions: permissions
            ).isEmpty
        }
        #expect(try allowed("/bin/make", "-q", "x") && allowed("/bin/any", "x") && allowed("/bin/bare"))
        #expect(try !allowed("/bin/make") && !allowed("/bin/make", "-x", "-q") && !allowed("/bin/bare", "x"))
        let secret = try violations(["kind": "secret", "id": "evil.key", "program": ["/bin/sh", "-c", "id"]])
        #expect(missing(secret) == [.init("permissions.programs", ["/bin/sh -c"])])
        #expect(secret.first?.resource == "secret evil.key")
        let check = try violations([
            "kind": "file", "id": "/data/evil/x", "path": "/data/evil/x", "content": "", "owner": "root", "mode": 420,
            "check": ["/bin/sh", "-c", "id"],
        ])
        #expect(missing(check) == [.init("permissions.programs", ["/bin/sh -c"])])
    }

    @Test func aProgramOfACommandIsInThePermissions() throws {
        var manifest = Self.manifest(Permissions())
        manifest.commands = [.init(.show, "look", "s", inputs: [.program(["/bin/sh", "-c", "id"])])]
        func problems(_ manifest: PluginManifest) throws -> [Problem] {
            let problems = ProblemList()
            _ = PluginManifest.shape.read(
                try YAML.read(Array(manifest.json.line.utf8), file: "m"), path: "", into: problems)
            return problems.problems
        }
        let found = try problems(manifest)
        #expect(
            found.map(\.path) == ["commands"] && found.first?.hint?.contains("[\"/bin/sh -c\"]") == true, "\(found)")
        manifest.permissions.programs = ["/bin/sh -c"]
        #expect(try problems(manifest).isEmpty)
        // As the user of another plugin, a program would read that one's files.
        manifest.commands = [.init(.show, "look", "s", inputs: [.program(["/bin/sh", "-c", "id"], user: "dnsmasq")])]
        #expect(ForeignPlugins.objections(to: manifest).map(\.resource) == ["command look"])
        manifest.commands = [.init(.show, "look", "s", inputs: [.program(["/bin/sh", "-c", "id"], user: "evil")])]
        #expect(ForeignPlugins.objections(to: manifest).isEmpty)
        manifest.commands = [.init(.show, "look", "s", inputs: [.program(["/bin/sh", "-c", "id"], user: "root")])]
        #expect(try problems(manifest).map(\.path) == ["commands[0].inputs[0].user"])
    }

    @Test func sysctlsAreNamesAndTheirBeginnings() throws {
        func allowed(_ key: String, _ pattern: String, isOwn: Bool = true) throws -> Bool {
            try violations(
                ["kind": "sysctl", "id": .text(key), "value": "1"], permissions: Permissions(sysctls: [pattern]),
                isOwn: isOwn
            ).isEmpty
        }
        #expect(try allowed("net/ipv4/conf/wan/rp_filter", "net/ipv4/conf/*/rp_filter"))
        #expect(try allowed("net/ipv4/conf/wan.10/rp_filter", "net/ipv4/conf/*"))
        #expect(try allowed("net/netfilter/nf_conntrack_max", "net/netfilter/nf_conntrack_*"))
        #expect(try !allowed("net/ipv4/conf/wan/arp_ignore", "net/ipv4/conf/*/rp_filter"))
        #expect(try !allowed("net/ipv4/ip_forward", "net/ipv4/conf/*") && !allowed("net/ipv4/conf", "net/ipv4/conf/*"))
        // One way to write a key: another one would be none of those that are compared.
        for key in ["kernel//core_pattern", "kernel/./core_pattern", "net/../kernel/core_pattern", "/kernel/modprobe"] {
            #expect(throws: InvalidResource.self) { try allowed(key, "*") }
        }
        for key in [
            "kernel/core_pattern", "kernel/modprobe", "kernel/hotplug", "kernel/poweroff_cmd", "fs/suid_dumpable",
            "kernel/yama/ptrace_scope", "vm/mmap_min_addr", "net/core/bpf_jit_enable", "user/max_user_namespaces",
        ] {
            #expect(try !allowed(key, "*", isOwn: false) && allowed(key, "*"), "\(key)")
        }
        #expect(try allowed("net/ipv4/ip_forward", "net/*", isOwn: false))
    }

    /// A chain that is only called may accept for the one that calls it, another plugin's chain,
    /// too.
    @Test func acceptingIsAPermissionOfItsOwn() throws {
        func chain(_ name: String, _ verdict: JSON, _ more: [String: JSON] = [:]) -> JSON {
            let line: [String: JSON] = [
                "kind": "nftables", "id": .text("chain \(name)"),
                "chain": ["name": .text(name), "rules": [["expr": [verdict]]]],
            ]
            return .object(line.merging(more) { $1 })
        }
        let accept: JSON = ["accept": .null]
        let stage: [String: JSON] = ["stage": "forward", "order": -1000]
        let first = try violations(chain("evil.a", accept, stage))
        #expect(
            missing(first) == [
                .init("permissions.stages", ["forward"]), .init("permissions.stages", ["forward accept"]),
            ])
        let drops = Permissions(stages: [.forward: false])
        #expect(try violations(chain("evil.a", ["drop": .null], stage), permissions: drops).isEmpty)
        for verdict in [
            accept, ["vmap": ["key": ["meta": ["key": "iifname"]], "data": ["set": [["wan", accept]]]]],
            ["vmap": ["key": ["meta": ["key": "iifname"]], "data": "@evil.map"]], ["queue": ["num": 1]],
            ["synproxy": ["mss": 1460, "wscale": 7]], ["fwd": ["dev": "lan"]],
        ] as [JSON] {
            let found = try violations(
                chain("evil.a", ["jump": ["target": "evil.b"]], stage), chain("evil.b", ["goto": ["target": "evil.c"]]),
                chain("evil.c", verdict), permissions: drops)
            #expect(missing(found) == [.init("permissions.stages", ["forward accept"])], "\(verdict.line)")
            #expect(found.first?.resource == "nftables chain evil.a")
            let all = Permissions(stages: [.forward: true])
            #expect(try violations(chain("evil.a", verdict, stage), permissions: all).isEmpty)
        }
        // Elements of other plugins' sets decide on their rules.
        let set: JSON = [
            "set": ["op": "add", "elem": ["payload": ["protocol": "ip", "field": "saddr"]], "set": "@firewall.x"]
        ]
        #expect(try violations(chain("evil.a", set)).map(\.asked) == ["the set firewall.x"])
    }

    @Test func otherKindsHaveTheirWords() throws {
        #expect(
            missing(try violations(["kind": "kernel-module", "id": "floppy"]))
                == [.init("features[\"base\"].modules", ["floppy"])])
        #expect(try violations(["kind": "kernel-module", "id": "dummy"]).isEmpty)
        let helper: JSON = [
            "kind": "nftables", "id": "helper evil.h",
            "ct helper": ["name": "evil.h", "type": "ftp", "protocol": "tcp"],
        ]
        #expect(missing(try violations(helper)) == [.init("permissions.helpers", ["ftp"])])
        let file: JSON = [
            "kind": "file", "id": "/data/evil/x", "path": "/data/evil/x", "content": "", "owner": "root",
            "mode": 0o4755,
        ]
        #expect(try violations(file).map(\.asked) == ["set-user-ID or set-group-ID"])
        #expect(try violations(file, isOwn: true).isEmpty)
        let opening: JSON = [
            "publish": "openings", "name": "evil.x", "value": ["interface": "wan", "protocol": "tcp", "port": 22],
        ]
        func publishing(_ openings: [String]) -> [PermissionViolation] {
            Self.manifest(Permissions(openings: openings)).violations(plan: [], published: [opening], isOwn: false)
        }
        #expect(missing(publishing(["tcp 23-80", "udp 22"])) == [.init("permissions.openings", ["tcp 22"])])
        #expect(publishing(["tcp 20-22"]).isEmpty)
    }

    /// Reserved names, and what a third party's manifest must not even ask for.
    @Test func manifestsOfThirdPartiesHaveBounds() throws {
        for name in ["engine", "vcpe", "init", "updater", "audit", "api", "units", "report"] {
            #expect(ForeignPlugins.objection(toName: name, isOwn: true)?.plugin == name)
        }
        #expect(ForeignPlugins.objection(toName: "lan", isOwn: false) != nil)
        #expect(ForeignPlugins.objection(toName: "lan", isOwn: true) == nil)
        func refused(_ change: (inout Permissions.Service) -> Void) -> Int {
            var service = Permissions.Service(["/usr/bin/one"], users: ["evil"])
            change(&service)
            return ForeignPlugins.objections(to: Self.manifest(Permissions(services: ["evil-one": service]))).count
        }
        #expect(refused { _ in } == 0 && refused { $0.capabilities = ["net_admin", "net_raw", "sys_time"] } == 0)
        for name in [
            "sys_admin", "sys_module", "sys_rawio", "sys_ptrace", "dac_override", "dac_read_search", "setuid", "setgid",
            "setpcap", "mknod", "setfcap", "sys_boot", "bpf", "chown", "fowner", "kill", "perfmon",
            "checkpoint_restore",
        ] { #expect(refused { $0.capabilities = [name] } == 1, "\(name)") }
        #expect(refused { $0.users = ["root"] } == 1 && refused { $0.users = ["0"] } == 1)
        #expect(refused { $0.systemCalls = [.mount, .modules, .debug, .all] } == 4)
        #expect(refused { $0.allows = [.namespaces, .kernelSettings] } == 2)
        #expect(refused { $0.devices = ["*", "mem", "vda", "nvme0n1", "s*", "mapper/root"] } == 6)
        #expect(refused { $0.devices = ["ttyUSB0", "net/tun", "ppp", "rtc0"] } == 0)
        #expect(refused { $0.visible = ["/", "/data", "/data/vcpe/secrets", "/run/vcpe", "/run/vcpe/units"] } == 5)
        #expect(
            refused { $0.writable = ["/etc", "/data/other"] } == 2 && refused { $0.writable = ["/data/evil/x"] } == 0)
        var manifest = Self.manifest(Permissions(sysctls: ["kernel/*", "*", "net/*"]))
        manifest.access = [.engine: ["evil-one"], .power: ["evil-one"]]
        #expect(
            ForeignPlugins.objections(to: manifest).map(\.resource) == ["sysctl kernel/*", "sysctl *", "access.engine"])
    }

    @Test func permissionsAreWhatTheirJSONSays() throws {
        for permissions in [Permissions(), Self.granted] {
            var manifest = Self.manifest(permissions)
            manifest.resources = ["route"]
            let problems = ProblemList()
            let node = try YAML.read(Array(manifest.json.pretty.utf8), file: "m")
            #expect(PluginManifest.shape.read(node, path: "", into: problems) == manifest, "\(problems.problems)")
            let allow = try YAML.read(Array(manifest.granted.json.pretty.utf8), file: "d")
            let read = Permissions.allowed.read(allow, path: "allow", into: problems)
            #expect(read == manifest.granted, "\(problems.problems)")
            #expect(manifest.granted.beyond(Permissions()).contains(.init("resources", ["route"])))
        }
    }
}
