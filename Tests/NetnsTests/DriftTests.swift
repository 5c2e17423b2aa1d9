import Documents
import Files
import Glibc
@testable import ImageBuilder
import PluginKit
import Processes
import TestSupport
import Testing

/// What others change of the box's own.
@Suite(.serialized) struct DriftTests {
    private static let site = BoxInNetwork.routed(BoxInNetwork.site)

    /// A plugin that has a file, a folder and a secret.
    private static let keeper = """
        #!/bin/sh
        cat >/dev/null
        [ "$1" = plan ] || exit 0
        cat <<'END'
        {"at":"","id":"/run/vcpe/keeper","kind":"directory","mode":493,"owner":"root","path":"/run/vcpe/keeper"}
        {"content":"key ${secret:keeper.key}\\n","id":"/run/vcpe/keeper/conf","kind":"file","mode":384,"owner":"root","path":"/run/vcpe/keeper/conf"}
        {"bytes":16,"id":"keeper.key","kind":"secret"}
        END

        """

    private func seconds(until isDone: () throws -> Bool) rethrows -> Double {
        let begin = Clock.seconds
        while Clock.seconds < begin + 6, try !isDone() { usleep(20_000) }
        return Clock.seconds - begin
    }

    private func onBox(_ box: BoxInNetwork, _ words: String) throws {
        let words = words.split(separator: " ").map(String.init)
        _ = try box.box.run { try Command(words[0], Array(words.dropFirst())).check() }
    }

    @Test func whatOthersChangeIsPutRightWithinTwoSeconds() throws {
        let box = try BoxInNetwork.ready(site: Self.site + "keeper: {}\n", plugins: ["keeper": Self.keeper])
        func whole() throws -> String {
            try box.decided()
                + box.box.run {
                    try Command("ip", ["rule"]).check().text
                        + Command("ip", ["route", "show", "table", "10"]).check().text.replacing(" linkdown", with: "")
                }
        }
        let before = try whole()
        #expect(
            before.contains("from 192.168.1.64/26 lookup 10") && before.contains("default via 192.168.1.253 dev lan"))
        let conf = "\(box.folder)/run/keeper/conf"
        let secret = try FileSystem.read(conf)
        for change in [
            "ip addr del 192.168.1.1/24 dev lan", "ip -6 addr del fd00:1::1/64 dev lan", "ip route del 10.0.0.0/8",
            "ip route replace 10.0.0.0/8 via 192.168.1.252 metric 20 proto 118", "ip rule del priority 1000",
            "ip rule add from 192.168.1.128/25 priority 1500 lookup 10 protocol 118", "ip route flush table 10",
            "ip link set lan down", "ip link set wan down", "ip link set lan-1 nomaster", "ip link del lan",
            "ip route add 192.0.2.0/24 via 192.168.1.7 proto 118", "sysctl -qw net.ipv4.ip_forward=0",
            "sysctl -qw net.ipv6.conf.wan.accept_ra=1", "rm \(conf)", "chmod 644 \(conf)", "cp /dev/null \(conf)",
            "rm -r \(box.folder)/run/keeper",
        ] {
            if change.hasPrefix("sysctl") {
                // A clean machine lacks the program.
                let word = try #require(change.split(separator: " ").last).split(separator: "=")
                _ = try box.box.run {
                    try File("/proc/sys/\(word[0].split(separator: ".").joined(separator: "/"))", O_WRONLY).write(
                        Array(word[1].utf8), at: 0)
                }
            } else {
                try onBox(box, change)
            }
            let time = try seconds { try whole() == before && (try? FileSystem.read(conf)) == secret }
            let now = try whole()
            #expect(time < 2, "\(change): \(now) \(box.log.suffix(1500))")
        }
        #expect(box.log.contains("drift: address 192.168.1.1/24 of lan is missing"))
        #expect(box.log.contains("drift: sysctl net/ipv4/ip_forward is 0 instead of 1"))
        #expect(try box.ask("status")["trouble"] == nil)
        // The mended box lets packets through as before.
        for proof in try PacketTests.proofs().filter({ $0.name.contains("TCP") }) {
            let result = try box.probing().run(proof)
            #expect(result.passed, "\(proof.name): \(result.seen)")
        }
    }

    @Test func whatNobodyOwnsIsLeftAlone() throws {
        let box = try BoxInNetwork.ready(site: Self.site)
        for change in [
            "ip addr add 198.51.100.9/24 dev wan", "ip route add 192.0.2.0/24 via 192.168.1.7",
            "ip link add vpn0 type bridge",
            "ip rule add from 192.0.2.0/24 priority 2000 lookup 20", "nft add table inet others",
            "nft add chain inet others c",
        ] { try onBox(box, change) }
        sleep(3)
        let state = try box.state()
        for words in ["198.51.100.9/24", "192.0.2.0/24 via 192.168.1.7", "table inet others"] {
            #expect(state.contains(words), "\(words)")
        }
        #expect(try box.box.run { try Command("ip", ["rule"]).check().text }.contains("lookup 20"))
        #expect(!box.log.contains("drift:"), "\(box.log)")
    }

    @Test func driftThatIsAdoptedIsOnlySaid() throws {
        let box = try BoxInNetwork.ready(
            site: Self.site.editing("  policy-routes:", with: "  drift: adopt\n  policy-routes:"))
        try onBox(box, "ip addr del 192.168.1.1/24 dev lan")
        #expect(try seconds { try box.ask("status")["drift"]?.list?.isEmpty == false } < 2)
        sleep(2)
        #expect(try !box.decided().contains("192.168.1.1/24"))
        #expect(
            box.log.split(separator: "\n").filter { $0.contains("drift: address 192.168.1.1/24 of lan is missing") }
                .count
                == 1)
        // The next change of the document puts it right.
        #expect(try box.apply(Self.site) == nil)
        #expect(try box.decided().contains("lan inet 192.168.1.1/24"), "\(box.log)")
        #expect(try seconds { try box.ask("status")["drift"] == nil } < 2)
    }

    /// Somebody who takes it away again and again doesn't keep the box busy.
    @Test func aFightIsNotFoughtForEver() throws {
        let box = try BoxInNetwork.ready(site: Self.site)
        func repairsSoFar() -> Int { box.log.split(separator: "\n").count { $0.contains("drift: repaired") } }
        func fight(while goesOn: () -> Bool) throws {
            while goesOn() {
                _ = try box.box.run { try Command("ip", ["rule", "del", "priority", "1000"]).run() }
                usleep(20_000)
            }
        }
        // Behind the eighth the box waits eight seconds; half of them are fought through, however fast this machine is.
        let last = Clock.seconds + 40
        try fight { repairsSoFar() < 8 && Clock.seconds < last }
        let end = Clock.seconds + 4
        try fight { Clock.seconds < end }
        let repairs = repairsSoFar()
        #expect(repairs >= 4 && repairs < 20, "\(repairs)")
        // A quiet time brings it back.
        let time = try seconds { try box.box.run { try Command("ip", ["rule"]).check().text }.contains("lookup 10") }
        #expect(time < 6)
    }

    @Test func secretsAreMadeOnceAndKept() throws {
        let box = try BoxInNetwork.ready(site: Self.site + "keeper: {}\n", plugins: ["keeper": Self.keeper])
        let conf = "\(box.folder)/run/keeper/conf"
        func key() throws -> String { String(decoding: try FileSystem.read(conf), as: UTF8.self) }
        let first = try key()
        #expect(first.count == "key ".count + 32 + 1 && first.hasPrefix("key "))
        #expect(try File(conf).status().st_mode & 0o777 == 0o600)
        let plan = try box.ask("plan").line
        #expect(plan.contains("${secret:keeper.key}") && !plan.contains(first.dropFirst(4).dropLast()))
        // Over the engine's fall, and over a time without the plugin.
        box.killEngine()
        try box.start()
        #expect(try box.apply(Self.site) == nil)
        #expect(!FileSystem.exists(conf))
        #expect(try box.apply(Self.site + "keeper: {}\n") == nil)
        #expect(try key() == first)
        let names = try Command("find", ["\(box.folder)/data", "-name", "keeper.key", "-perm", "600"]).check().text
        #expect(names.hasSuffix("/vcpe/secrets/keeper.key\n"))
        // One that nobody plans can't be named.
        let thief = Self.keeper.editing("keeper", with: "thief").editing(
            "${secret:thief.key}", with: "${secret:keeper.key}")
        let other = try BoxInNetwork.ready(plugins: ["keeper": Self.keeper, "thief": thief])
        let error = try other.apply(Self.site + "keeper: {}\nthief: {}\n")
        #expect(
            error?.contains("references secret keeper.key, which that plugin does not plan") == true, "\(error ?? "")")
    }
}
