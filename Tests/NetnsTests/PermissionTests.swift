import Documents
import Files
import Glibc
import PluginKit
import Processes
import TestSupport
import Testing

/// A malicious plugin of a third party: what its plan asks the engine for, which is root.
@Suite(.serialized) struct PermissionTests {
    /// Plans and publishes the lines of its part of the document.
    private static let plugin = """
        #!/bin/sh
        case $1 in
        plan) exec jq -c '.configuration.plan // [] | .[]' ;;
        publish) exec jq -c '.configuration.publish // [] | .[]' ;;
        show) exec jq -c '{columns: ["said"], rows: [.programs | to_entries[] | [.value]]}' ;;
        esac
        cat >/dev/null

        """

    private static func site(_ name: String, _ key: String, _ lines: [JSON]) -> String {
        BoxInNetwork.site + "\(name): {\(key): \(JSON.list(lines).line)}\n"
    }

    private static func service(_ more: [String: JSON]) -> JSON {
        let service: [String: JSON] = [
            "kind": "service", "id": "evil-one", "name": "evil-one", "command": ["/bin/sleep", "1000"],
            "user": "nobody",
        ]
        return .object(service.merging(more) { $1 })
    }

    private static func chain(_ stage: String, _ verdict: JSON) -> JSON {
        [
            "kind": "nftables", "id": "chain evil.all", "stage": .text(stage), "order": -1000,
            "chain": ["name": "evil.all", "rules": [["expr": [verdict]]]],
        ]
    }

    private static let secret: JSON = ["kind": "secret", "id": "evil.key", "program": ["/bin/sh", "-c", "id"]]

    /// What is planned, and what the error names: the resource, and the manifest's line.
    private static let beyondTheManifest: [(line: JSON, names: [String])] = [
        (secret, ["secret evil.key", "permissions.programs: [\"/bin/sh -c\"]"]),
        (service([:]), ["service evil-one", "permissions.services.evil-one: {"]),
        (chain("forward", ["accept": .null]), ["chain evil.all", "permissions.stages: [\"forward\"]"]),
        (
            ["kind": "sysctl", "id": "net/ipv4/ip_forward", "value": "0"],
            ["sysctl net/ipv4/ip_forward", "permissions.sysctls: [\"net/ipv4/ip_forward\"]"]
        ),
        (
            ["kind": "kernel-module", "id": "floppy"],
            ["kernel-module floppy", "features[\"base\"].modules: [\"floppy\"]"]
        ),
        (
            [
                "kind": "file", "id": "/data/evil/x", "path": "/data/evil/x", "content": "", "owner": "root",
                "mode": 420, "check": ["/bin/sh", "-c", "id"],
            ], ["file /data/evil/x", "permissions.programs: [\"/bin/sh -c\"]"]
        ),
    ]

    @Test func aPlanBeyondTheManifestIsRefused() throws {
        let box = try BoxInNetwork(plugins: ["evil": Self.plugin], foreign: ["evil"])
        try box.start()
        let before = try box.decided()
        for (line, names) in Self.beyondTheManifest {
            let error = try box.apply(Self.site("evil", "plan", [line])) ?? "applied"
            for name in ["plugin evil"] + names { #expect(error.contains(name), "\(line.line): \(error)") }
        }
        let opening: JSON = [
            "publish": "openings", "name": "evil.ssh", "value": ["interface": "wan", "protocol": "tcp", "port": 22],
        ]
        let opened = try box.apply(Self.site("evil", "publish", [opening])) ?? "applied"
        #expect(
            opened.contains("opening evil.ssh") && opened.contains("permissions.openings: [\"tcp 22\"]"), "\(opened)")
        let zone: JSON = ["publish": "zones", "name": "lan2", "value": ["set": "network.zone-lan"]]
        let published = try box.apply(Self.site("evil", "publish", [zone])) ?? "applied"
        #expect(published.contains("publishes: [\"zones\"]"), "\(published)")
        #expect(try box.decided() == before)
        #expect(!FileSystem.exists("\(box.folder)/data/vcpe/secrets"))
    }

    /// Drops are not accepts; the site's policies stay the last word.
    @Test func aStageIsNoPermissionToAccept() throws {
        let box = try BoxInNetwork.ready(
            plugins: ["evil": Self.plugin],
            manifests: ["evil": ["permissions": ["stages": ["forward"]], "resources": ["nftables"]]],
            foreign: ["evil"])
        let error = try box.apply(Self.site("evil", "plan", [Self.chain("forward", ["accept": .null])])) ?? "applied"
        #expect(error.contains("permissions.stages: [\"forward accept\"]"), "\(error)")
        #expect(try box.apply(Self.site("evil", "plan", [Self.chain("forward", ["drop": .null])])) == nil)
    }

    /// What no manifest can grant: each manifest has what its plan asks for.
    @Test(
        arguments: [
            (["user": "root"], ["users": ["root"]], "the user root"),
            (["capabilities": ["sys_admin"]], ["capabilities": ["sys_admin"]], "the capability sys_admin"),
            (["capabilities": ["setuid"]], ["capabilities": ["setuid"]], "the capability setuid"),
            (["directories": ["/data/vcpe/secrets"]], ["writable": ["/data/vcpe"]], "to write to /data/vcpe"),
            (["ready": "file /data/vcpe/victim"], [:], "the ready file /data/vcpe/victim"),
            (["configuration-files": ["/run/vcpe/upgrade/x"]], [:], "the configuration file /run/vcpe/upgrade/x"),
        ] as [([String: JSON], [String: JSON], String)])
    func whatNoManifestCanGrantIsRefused(line: [String: JSON], grant: [String: JSON], asked: String) throws {
        let least: [String: JSON] = ["programs": ["/bin/sleep"], "users": ["nobody"]]
        let granted = JSON.object(least.merging(grant) { $1 })
        let box = try BoxInNetwork(
            plugins: ["evil": Self.plugin],
            manifests: ["evil": ["permissions": ["services": ["evil-one": granted]]]], foreign: ["evil"])
        try box.start()
        let error = try box.apply(Self.site("evil", "plan", [Self.service(line)])) ?? "applied"
        #expect(
            error.contains("plugin evil") && error.contains("service evil-one") && error.contains(asked), "\(error)")
        #expect(!FileSystem.exists("\(box.folder)/run/units/evil-one"))
    }

    @Test func sysctlsThatRunProgramsAreRefused() throws {
        let box = try BoxInNetwork(
            plugins: ["evil": Self.plugin], manifests: ["evil": ["permissions": ["sysctls": ["net/*", "kernel/*"]]]],
            foreign: ["evil"])
        try box.start()
        let line: JSON = ["kind": "sysctl", "id": "kernel/core_pattern", "value": "|/run/vcpe/evil/x"]
        let error = try box.apply(Self.site("evil", "plan", [line])) ?? "applied"
        #expect(error.contains("plugin evil") && error.contains("sysctl kernel/*"), "\(error)")
    }

    /// The folder of the engine's own state would be the plugin's.
    @Test func aPluginIsNotCalledAsThePartsOfTheBox() throws {
        for name in ["engine", "report"] {
            let box = try BoxInNetwork(plugins: [name: Self.plugin], foreign: [name])
            try box.start()
            let path = "/run/vcpe/\(name)/applied"
            let file: JSON = [
                "kind": "file", "id": .text(path), "path": .text(path), "content": "", "owner": "root", "mode": 420,
            ]
            let error = try box.apply(Self.site(name, "plan", [file])) ?? "applied"
            #expect(error.contains("plugin \(name)") && error.contains("the name \(name)"), "\(error)")
        }
    }

    private static let identity =
        "id -u; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status; "
        + "ls /data /run /var/lib 2>&1; ls /proc | grep -c '^[0-9]'"

    /// A read-only user may run a command: its programs are no root's, see nothing of the box, and
    /// no other process.
    @Test func programsOfCommandsAreConfined() throws {
        let words: JSON = ["/bin/sh", "-c", .text(Self.identity)]
        let manifest: [String: JSON] = [
            "permissions": ["programs": ["/bin/sh -c"]],
            "commands": [["name": "look", "summary": "s", "verb": "show", "inputs": [["program": words]]]],
        ]
        let box = try BoxInNetwork.ready(
            plugins: ["evil": Self.plugin], manifests: ["evil": manifest], foreign: ["evil"])
        #expect(try box.apply(BoxInNetwork.site + "evil: {}\n") == nil)
        let answer = try box.ask("run", ["plugin": "evil", "command": "look", "arguments": []])
        let said = answer["rows"]?.list?.first?.list?.first?.text ?? answer.line
        let lines = said.split(separator: "\n").map(String.init)
        #expect(lines.count > 3 && lines[0] == "64600", "\(said)")
        #expect(lines.contains("CapEff:\t0000000000000000") && lines.contains("NoNewPrivs:\t1"), "\(said)")
        #expect(!said.contains("vcpe") && Int(lines.last ?? "").map { $0 < 8 } == true, "\(said)")
    }

    /// Granted, they are made; by a program that is not root and sees no other secret.
    @Test func programsOfSecretsAreConfined() throws {
        let program: JSON = ["/bin/sh", "-c", .text("{ \(Self.identity); } > \"$0\""), "${file}"]
        let box = try BoxInNetwork.ready(
            plugins: ["evil": Self.plugin], manifests: ["evil": ["permissions": ["programs": ["/bin/sh -c"]]]],
            foreign: ["evil"])
        let line: JSON = ["kind": "secret", "id": "evil.key", "program": program]
        let error = try box.apply(Self.site("evil", "plan", [line]))
        try #require(error == nil, "\(error ?? "")")
        let made = String(decoding: try FileSystem.read("\(box.folder)/data/vcpe/secrets/evil.key"), as: UTF8.self)
        let lines = made.split(separator: "\n").map(String.init)
        #expect(lines.first == "64600" && lines.contains("CapEff:\t0000000000000000"), "\(made)")
        #expect(lines.contains("NoNewPrivs:\t1") && !made.contains("vcpe"), "\(made)")
    }
}
