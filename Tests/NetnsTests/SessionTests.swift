import Addresses
import Documents
import Files
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// Connections that stand while the policy changes: those that it forbids end, others don't notice.
@Suite(.serialized) struct SessionTests {
    private static func site(_ rule: String = "") -> String {
        BoxInNetwork.site.editing(
            "  rules:\n",
            with: "  groups:\n    - {name: staff, members: [192.168.1.10]}\n    - {name: late}\n  rules:\n\(rule)"
                + "    - {name: late, from: lan, to: wan, source-groups: [late], action: drop}\n"
                + "    - {name: telnet, from: lan, to: wan, protocol: tcp, ports: [23], action: reject, log: true, log-prefix: 'telnet: '}\n"
        ).editing(
            "firewall:\n", with: "firewall:\n  fast-path: hardware\n  logging: {packets: true, sessions: true}\n")
    }

    private let box: BoxInNetwork
    private let network: ProofNetwork

    init() throws {
        box = try BoxInNetwork.ready(site: Self.site(), users: ["vcpe-log:x:951:951::/nonexistent:/bin/false"])
        network = try #require(box.network)
        _ = try network.namespace(.lan).run {
            try Command("ip", ["addr", "replace", "192.168.1.20/24", "dev", "lan"]).check()
        }
    }

    /// A connection by TCP that answers as long as it is let.
    private final class Talk {
        let client: ProofSocket
        let server: ProofSocket
        private let listener: ProofSocket

        init(
            _ from: (NetworkNamespace, String), to: (NetworkNamespace, String, Int), asked: (String, Int)? = nil
        ) throws {
            listener = try ProofSocket(to.0, .ipv4, isStream: true)
            try listener.bind(try #require(IPAddress(to.1)), port: to.2, listen: true)
            client = try ProofSocket(from.0, .ipv4, isStream: true)
            try client.bind(try #require(IPAddress(from.1)), port: 0, listen: false)
            let target = asked ?? (to.1, to.2)
            #expect(client.connect(try #require(IPAddress(target.0)), port: target.1) == 0)
            #expect(listener.wait(seconds: 3))
            server = try #require(listener.accept()).socket
        }

        func goesOn() -> Bool {
            _ = client.send([1])
            guard server.wait(seconds: 1), server.receive().bytes.first == 1 else { return false }
            _ = server.send([2])
            return client.wait(seconds: 1) && client.receive().bytes.first == 2
        }
    }

    /// Connections are looked at behind the answer.
    private func ends(_ talk: Talk) -> Bool {
        for _ in 0..<20 {
            if !talk.goesOn() { return true }
            usleep(50_000)
        }
        return false
    }

    private func tracked(_ port: Int) throws -> Int {
        let text = try box.box.run {
            try Command("conntrack", ["-L", "-p", "tcp", "--orig-port-dst", "\(port)"]).run().text
        }
        return text.split(separator: "\n").count
    }

    @Test func whatARuleForbidsEndsAndTheRestGoesOn() throws {
        let (lan, wan) = (try network.namespace(.lan), try network.namespace(.wan))
        let ssh = try Talk((lan, "192.168.1.10"), to: (wan, "203.0.113.1", 2222))
        let web = try Talk((lan, "192.168.1.10"), to: (wan, "203.0.113.1", 8443))
        let neighbour = try Talk((lan, "192.168.1.20"), to: (wan, "203.0.113.1", 2223))
        let forwarded = try Talk((wan, "203.0.113.1"), to: (lan, "192.168.1.10", 80), asked: ("203.0.113.2", 8080))
        #expect(ssh.goesOn() && web.goesOn() && neighbour.goesOn() && forwarded.goesOn())
        let shown = try box.vcpectl("firewall", "sessions", "192.168.1.10").text
        #expect(shown.contains("203.0.113.1:2222") && shown.contains("established"), "\(shown)")
        #expect(shown.contains("to 192.168.1.10:80") && !shown.contains("192.168.1.20"), "\(shown)")

        // A rule against one of them.
        let rule =
            "    - {name: no-ssh, from: lan, to: wan, protocol: tcp, ports: [2222-2223], source: [192.168.1.10], action: reject}\n"
        #expect(try box.apply(Self.site(rule)) == nil)
        #expect(ends(ssh), "\(box.log)")
        #expect(web.goesOn() && neighbour.goesOn() && forwarded.goesOn(), "\(box.log)")
        #expect(try tracked(2222) == 0 && tracked(8443) == 1 && tracked(2223) == 1 && tracked(8080) == 1)

        // Somebody joins a group whose rule says no; another leaves nothing behind.
        _ = try box.vcpectl("feed", "firewall.group.late", "add", "192.168.1.20")
        #expect(ends(neighbour))
        #expect(web.goesOn() && forwarded.goesOn())

        // A forward that is taken away, while what it does not concern stays.
        #expect(
            try box.apply(
                Self.site(rule).editing(
                    "    - {name: web, from: wan, protocol: tcp, ports: 8080, to: 192.168.1.10, to-port: 80}\n",
                    with: ""
                ).editing("  forwards:\n", with: "")) == nil)
        #expect(ends(forwarded))
        #expect(web.goesOn())
        // Nobody's policy any more.
        #expect(
            try box.apply(
                Self.site(rule).editing(
                    "    - {from: lan, to: wan, action: accept}\n  groups",
                    with: "    - {from: lan, to: wan, action: drop}\n  groups")) == nil)
        #expect(ends(web))
        #expect(try box.vcpectl("firewall", "sessions", "nobody").errorText.contains("is no address"))
    }

    @Test func packetsAndConnectionsAreNotedAsJSON() throws {
        // As PID 1 would start it.
        let log = try File("\(box.folder)/log.json", O_WRONLY | O_CREAT | O_TRUNC)
        let service = try box.box.run {
            try Command("/usr/sbin/ulogd", ["--configfile", "\(box.folder)/run/firewall/ulogd.conf"]).start(output: log)
        }
        defer { service.kill() }
        func lines() throws -> [JSON] {
            String(decoding: try FileSystem.read("\(box.folder)/log.json"), as: UTF8.self).split(separator: "\n")
                .compactMap { try? JSON.parse($0.utf8) }
        }
        let (lan, wan) = (try network.namespace(.lan), try network.namespace(.wan))
        var noted: JSON?
        for _ in 0..<20 where noted == nil {
            let client = try ProofSocket(lan, .ipv4, isStream: true)
            _ = client.connect(try #require(IPAddress("203.0.113.1")), port: 23)
            usleep(200_000)
            noted = try lines().first { $0["oob.prefix"]?.text == "telnet: " }
        }
        let said = (try? FileSystem.read("\(box.folder)/log.json")).map { String(decoding: $0, as: UTF8.self) } ?? ""
        let packet = try #require(noted, "\(said)")
        #expect(packet["src_ip"]?.text == "192.168.1.10" && packet["dest_ip"]?.text == "203.0.113.1")
        #expect(
            packet["dest_port"]?.integer == 23 && packet["oob.in"]?.text == "lan" && packet["oob.out"]?.text == "wan")
        let talk = try Talk((lan, "192.168.1.10"), to: (wan, "203.0.113.1", 8444))
        #expect(talk.goesOn())
        _ = try box.box.run { try Command("conntrack", ["-D", "-p", "tcp", "--orig-port-dst", "8444"]).run() }
        var ended: JSON?
        for _ in 0..<20 where ended == nil {
            usleep(100_000)
            ended = try lines().first { $0["orig.l4.dport"]?.integer == 8444 }
        }
        let session = try #require(ended)
        #expect(
            session["orig.ip.saddr.str"]?.text == "192.168.1.10" || session["src_ip"]?.text == "192.168.1.10",
            "\(session.line)")
        #expect(session["orig.raw.pktcount"]?.integer ?? 0 >= 3, "\(session.line)")
    }
}
