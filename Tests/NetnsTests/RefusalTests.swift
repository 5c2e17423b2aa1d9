import Documents
import Files
import Glibc
@testable import ImageBuilder
import PluginKit
import Processes
import TestSupport
import Testing

/// What can't be applied changes nothing, and is said with its place.
@Suite(.serialized) struct RefusalTests {
    @Test func wrongDocumentsAreRefusedWithTheirPlaceAndChangeNothing() throws {
        let box = try BoxInNetwork.ready()
        let before = try box.decided()
        let good = BoxInNetwork.site
        let wrong: [(String, String)] = [
            ("netwrok: {}\n", "site.yaml:1:1: netwrok: no plugin of this image reads this key; did you mean network?"),
            ("[1, 2]\n", "found a list of 2; allowed is a mapping"),
            ("network: 5\n", "site.yaml:1:10: network: found \"5\"; allowed is a mapping"),
            ("a: &a [*a]\n", "lies within its own anchor"), ("network: {zones: [wan\n", "site.yaml:2:1"),
            (
                good.editing("zone: wan\n", with: "zone: wann\n"),
                "site.yaml:5:13: network.interfaces[0].zone: there is no zone \"wann\"; did you mean wan?"
            ),
            (
                good.editing("port: order 1", with: "port: order 7"),
                "absent: site.yaml:6:13: network.interfaces[0].port: no port of the box is that"
            ),
            (
                good.editing("port: order 1", with: "port: order 2"),
                "the port is taken already, by interfaces[0].port"
            ),
            (good.editing("192.168.1.1/24", with: "203.0.113.9/24"), "overlaps 203.0.113.2/24 of wan"),
            (good.editing("ports: 8080", with: "ports: 90-80"), "nat.forwards[0].ports: found \"90-80\""),
            (good.editing("to: 192.168.1.10", with: "to: \"fd00::1\""), "fd00::1 is in no network of an interface"),
            (good.editing("to: 192.168.1.10", with: "to: 10.0.0.1"), "10.0.0.1 is in no network of an interface"),
            (
                good.editing("{from: lan, to: wan, action: accept}", with: "{from: lan, to: wan, action: allow}"),
                "allowed is one of accept, drop, reject"
            ),
        ]
        for (site, message) in wrong {
            let error = try #require(try box.apply(site), "\(site) was applied")
            #expect(error.contains(message), "\(error)")
            #expect(try box.decided() == before, "\(site)")
        }
        // The document that stood is followed still, and so it is after a restart.
        box.killEngine()
        try box.start()
        #expect(try box.ask("status")["trouble"] == nil)
        #expect(try box.decided() == before)
    }

    /// Plugins of all wrong kinds; each is asked for by its key in the document.
    @Test(arguments: [
        ("silent", "exit 0", nil as String?), ("garbage", "echo '<xml/>'", "plugin garbage publish: a line is no JSON"),
        ("half", "printf '{\"a\":1}'", "its last line has no end"),
        ("crash", "exec python3 -c 'import ctypes; ctypes.string_at(0)'", "it ended with 139"),
        // What it must not reach it finds nowhere: the commits, the engine's socket, others'
        // processes, a network.
        (
            "spies",
            """
            [ $(ls -d /proc/[0-9]* | wc -l) -lt 6 ] || exit 2
            [ "$(ls -A /sys)$(ls -A "${0%/*}/../../data")$(ls -A "${0%/*}/../../run")" = "" ] || exit 3
            touch "${0%/*}/x" && exit 4
            mkdir /dev/shm/vcpe-$$ && exit 7
            mkdir /var/tmp/vcpe-$$ && exit 8
            python3 -c 'import socket; socket.create_connection(("203.0.113.1", 9), 2)' 2>/dev/null && exit 5
            [ $(id -u) -ge 64000 ] || exit 6
            """, nil
        ), ("forks", "f() { f | f & }; f; f; f; sleep 60", "plugin forks publish: it"),
        (
            "hungry", "exec python3 -c 'x = []\nwhile True: x.append(bytearray(1 << 20))'",
            "plugin hungry publish: it ended with 1"
        ), ("gigabyte", "exec head -c 1073741824 /dev/zero", "it said more than"),
        ("says", "echo no idea >&2; exit 3", "it ended with 3: no idea"),
        (
            "claims", "[ $1 = publish ] || echo '{\"kind\":\"sysctl\",\"id\":\"net/ipv4/ip_forward\",\"value\":\"0\"}'",
            "plugins claims and network both want sysctl net/ipv4/ip_forward"
        ),
        (
            "strange", "[ $1 = publish ] || echo '{\"kind\":\"planet\",\"id\":\"x\"}'",
            "the kind \"planet\" is not known"
        ),
        (
            "foreign",
            "[ $1 = publish ] || echo '{\"kind\":\"nftables\",\"id\":\"counter firewall.x\",\"counter\":{\"name\":\"firewall.x\"}}'",
            "firewall.x must be named foreign.…"
        ),
        (
            "escapes",
            "[ $1 = publish ] || echo '{\"kind\":\"file\",\"id\":\"/run/vcpe/escapes/../../x\",\"path\":\"/run/vcpe/escapes/../../x\",\"content\":\"\",\"owner\":\"root\"}'",
            "is not below /run/vcpe/escapes"
        ),
        (
            "refused",
            "[ $1 = publish ] || echo '{\"kind\":\"nftables\",\"id\":\"chain refused.c\",\"chain\":{\"name\":\"refused.c\",\"rules\":[{\"comment\":\"refused: here\",\"expr\":[{\"jump\":{\"target\":\"nowhere\"}}]}]}}'",
            "a rule of chain refused.c (refused: here): No such file or directory"
        ),
        (
            "unknown",
            "[ $1 = publish ] || echo '{\"kind\":\"nftables\",\"id\":\"chain unknown.c\",\"chain\":{\"name\":\"unknown.c\",\"rules\":[{\"expr\":[{\"quota\":{\"val\":1}}]}]}}'",
            "the statement \"quota\" is not supported"
        ),
        (
            "guards",
            "[ $1 = publish ] || echo '{\"kind\":\"nftables\",\"id\":\"chain guards.c\",\"stage\":\"forward-guard\",\"chain\":{\"name\":\"guards.c\",\"rules\":[{\"expr\":[{\"accept\":null}]}]}}'",
            "which may only drop"
        ),
        (
            "crowded",
            "[ $1 = publish ] || { n=$(printf %0300d 0); echo '{\"kind\":\"nftables\",\"id\":\"counter crowded.'$n'\",\"counter\":{\"name\":\"crowded.'$n'\"}}'; }",
            "of 308 bytes: 1 to 255 are allowed"
        ),
        (
            "lengthy",
            "[ $1 = publish ] || { n=$(yes '{\"log\":{}}' | head -200 | paste -sd,); echo '{\"kind\":\"nftables\",\"id\":\"chain lengthy.c\",\"chain\":{\"name\":\"lengthy.c\",\"rules\":[{\"expr\":['$n']}]}}'; }",
            "a rule of more than 128 instructions"
        ),
        (
            "negative",
            "[ $1 = publish ] || echo '{\"kind\":\"nftables\",\"id\":\"set negative.s\",\"set\":{\"name\":\"negative.s\",\"type\":\"ipv4_addr\",\"flags\":[\"timeout\"],\"timeout\":-5}}'",
            "this timeout is not supported: -5"
        ),
        (
            "modes",
            "[ $1 = publish ] || echo '{\"kind\":\"directory\",\"id\":\"/run/vcpe/modes\",\"path\":\"/run/vcpe/modes\",\"owner\":\"root\",\"mode\":-1}'",
            "\"mode\" is not a number from 0 to 4095"
        ),
        ("dozes", "exec >&- 2>&-; sleep 60", "plugin dozes publish: it took longer than 10 s"),
        (
            "endless",
            "exec yes '{\"publish\":\"x\",\"name\":\"x\",\"value\":1}'",
            "it said more than"
        ),
    ])
    func wrongPluginsFailTheCommitAndNothingElse(name: String, body: String, message: String?) throws {
        let box = try BoxInNetwork(plugins: [name: "#!/bin/sh\ncat >/dev/null\n\(body)\n"])
        try box.start()
        try box.connect()
        // Both ports: the engine adopts them one after the other, and sets them up later in its transaction.
        let hasPorts = try Wait.until(20) {
            let text = try box.decided()
            return ["eth0 ", "eth1 ", " down"].allSatisfy { !text.contains($0) }
                && text.contains("203.0.113.0/24 dev wan")
        }
        let before = try box.decided()
        try #require(hasPorts, "\(before)")
        // With packets on their way all the time.
        let traffic = try ProbeTraffic(try #require(box.network))
        defer { traffic.stop() }
        usleep(300_000)
        traffic.resetPauses()
        let sent = traffic.now.forwarded
        let error = try box.apply(BoxInNetwork.site + "\(name): {}\n")
        usleep(100_000)
        #expect(traffic.now.forwarded > sent && traffic.now.longestPause < 1 && traffic.now.fromWAN == 0)
        // And nothing of it goes on.
        let left = try Command("find", ["/proc", "-maxdepth", "1", "-uid", "+63999", "-uid", "-64010"]).run()
        #expect(left.text.isEmpty, "\(left.text)")
        if let message {
            #expect(error?.contains(message) == true, "\(error ?? "applied")")
            let after = try box.decided()
            let (old, new) = (Set(before.split(separator: "\n")), Set(after.split(separator: "\n")))
            #expect(after == before, "went: \(old.subtracting(new)), came: \(new.subtracting(old))")
        } else {
            #expect(error == nil)
        }
        let proof = try #require(try PacketTests.proofs().first { $0.name == "LAN to WAN by TCP is masqueraded" })
        #expect(try box.probing().run(proof).passed)
    }

    @Test func onlyRootIsAnswered() throws {
        let box = try BoxInNetwork.ready()
        chmod("\(box.folder)/run", 0o755)
        let result = try Command(
            "setpriv",
            [
                "--reuid=65534", "--regid=65534", "--clear-groups", "python3", "-c",
                "import socket; s=socket.socket(socket.AF_UNIX); s.connect('\(box.folder)/run/engine.sock')",
            ]
        ).run()
        #expect(result.status != 0 && result.errorText.contains("Permission denied"))
    }

    @Test func garbageOnTheSocketIsAnsweredOrDropped() throws {
        let box = try BoxInNetwork.ready()
        for text in [
            "", "x\n", "{}\n", "{\"do\":5}\n", "{\"do\":\"apply\"}\n", String(repeating: "[", count: 100_000) + "\n",
        ] {
            _ = try? Command(
                "python3",
                [
                    "-c",
                    "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(sys.argv[2].encode()); s.shutdown(1); print(s.recv(9999))",
                    "\(box.folder)/run/engine.sock", text,
                ]
            ).run()
        }
        #expect(
            try box.ask("nonsense")["error"]?.text?.contains(
                "there is no request \"nonsense\"; known are apply, audit, candidate") == true)
        #expect(try box.ask("status")["trouble"] == nil)
    }

    /// Nobody would stop it in time any more.
    @Test func aPluginEndsWithItsEngine() throws {
        let box = try BoxInNetwork.ready(plugins: ["sleeper": "#!/bin/sh\nexec sleep 4711\n"])
        let call = try box.say("apply", ["site": .text(BoxInNetwork.site + "sleeper: {}\n"), "name": "site.yaml"])
        func sleepers() throws -> Int {
            try FileSystem.list("/proc").filter { Int($0) != nil }.filter { pid in
                let line = (try? File("/proc/\(pid)/cmdline", O_RDONLY).read(64, at: 0)) ?? []
                return String(decoding: line, as: UTF8.self) == "sleep\0" + "4711\0"
            }.count
        }
        var end = Clock.seconds + 5
        while Clock.seconds < end, try sleepers() == 0 { usleep(20_000) }
        #expect(try sleepers() == 1)
        box.killEngine()
        _ = call
        end = Clock.seconds + 5
        while Clock.seconds < end, try sleepers() > 0 { usleep(20_000) }
        #expect(try sleepers() == 0)
    }
}
