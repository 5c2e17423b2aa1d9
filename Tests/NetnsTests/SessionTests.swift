import Addresses
import Documents
import Glibc
@testable import ImageBuilder
import Processes
import Testing

/// Connections that stand while the policy changes: those that it forbids end, others don't notice.
@Suite(.serialized) struct SessionTests {
    private static func site(_ rule: String = "") -> String {
        BoxInNetwork.site.replacing(
            "  rules:\n",
            with: "  groups:\n    - {name: staff, members: [192.168.1.10]}\n    - {name: late}\n  rules:\n\(rule)"
                + "    - {name: late, from: lan, to: wan, source-groups: [late], action: drop}\n")
    }

    private let box: BoxInNetwork
    private let network: ProofNetwork

    init() throws {
        box = try BoxInNetwork.ready(site: Self.site())
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
                Self.site(rule).replacing(
                    "    - {name: web, from: wan, protocol: tcp, ports: 8080, to: 192.168.1.10, to-port: 80}\n",
                    with: ""
                ).replacing("  forwards:\n", with: "")) == nil)
        #expect(ends(forwarded))
        #expect(web.goesOn())
        // Nobody's policy any more.
        #expect(
            try box.apply(
                Self.site(rule).replacing(
                    "    - {from: lan, to: wan, action: accept}\n  groups",
                    with: "    - {from: lan, to: wan, action: drop}\n  groups")) == nil)
        #expect(ends(web))
        #expect(try box.vcpectl("firewall", "sessions", "nobody").errorText.contains("is no address"))
    }
}
