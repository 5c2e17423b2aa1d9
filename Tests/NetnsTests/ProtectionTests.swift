import Addresses
import Documents
import Files
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// Floods and packets that nobody means well with, made by nmap, hping3, scapy and iperf3, which nobody here wrote.
@Suite(.serialized) struct ProtectionTests {
    private static let site = BoxInNetwork.site.editing(
        "  rules:\n",
        with: """
              protection:
                - zone: wan
                  fragments: false
                  bogons: true
                  per-source: {connections: {packets: 20, burst: 40}, open: 600}
                  block-for: 4s
                  syn-proxy: [443]
              rules:
                - {name: few, from: wan, to: lan, destination: [192.168.1.10], protocol: udp, ports: [7500], connections: {most: 3}, action: accept}
                - {name: few-not, from: wan, to: lan, destination: [192.168.1.10], protocol: udp, ports: [7500], action: drop}
                - {name: slow, from: wan, to: lan, destination: [192.168.1.10], protocol: udp, ports: [7501], rate: {packets: 1, per: minute, burst: 2, each: source}, action: accept}
                - {name: slow-not, from: wan, to: lan, destination: [192.168.1.10], protocol: udp, ports: [7501], action: drop}
                - {name: in, from: wan, to: lan, destination: [192.168.1.10], protocol: tcp-and-udp, ports: [443, 7000-7999], action: accept}

            """)

    private let box: BoxInNetwork
    private let network: ProofNetwork

    init() throws {
        box = try BoxInNetwork.ready(site: Self.site)
        network = try #require(box.network)
        #expect(try box.ask("status")["trouble"] == nil, "\(box.log)")
        // Strangers who come through the provider, on the way back too.
        _ = try network.namespace(.wan).run {
            for address in ["9.9.9.9", "9.9.9.10"] {
                try Command("ip", ["addr", "replace", "\(address)/32", "dev", "wan"]).check()
            }
            try Command("ip", ["route", "replace", "192.168.1.0/24", "via", "203.0.113.2"]).check()
        }
        _ = try box.box.run { try Command("ip", ["route", "replace", "9.0.0.0/8", "via", "203.0.113.1"]).check() }
    }

    private func run(_ place: Proof.Endpoint, _ words: String...) throws -> Command.Result {
        try network.namespace(place).run {
            try Command(words[0], Array(words.dropFirst())).begin().finish(deadline: 60, limit: 1 << 20)
        }
    }

    private func counted(_ name: String) throws -> Int {
        try box.ask("counters")["firewall.protection.wan.\(name)"]?["packets"]?.integer ?? -1
    }

    private func scapy(_ code: String) throws {
        let result = try run(.wan, "/usr/bin/python3", "-c", "from scapy.all import *\nconf.verb = 0\n\(code)\n")
        #expect(result.status == 0, "\(result.errorText)")
    }

    @Test func strangePacketsEndWhereTheyComeIn() throws {
        // What listens in the LAN sees none of them.
        let server = try ProofSocket(network.namespace(.lan), .ipv4, isStream: false)
        try server.bind(try #require(IPAddress("192.168.1.10")), port: 7001, listen: false)
        let mac = try network.side(.wan).boxMAC
        try scapy(
            """
            to = Ether(dst="\(mac)") / IP(src="9.9.9.9", dst="192.168.1.10")
            def out(packet): sendp(packet, iface="wan")
            for flags in ["", "SF", "SR", "FR", "F", "P", "U", "FPU"]:
                out(to / TCP(sport=1000, dport=7001, flags=flags))
            for part in fragment(IP(src="9.9.9.9", dst="192.168.1.10") / UDP(sport=1000, dport=7001) / ("x" * 3000)):
                out(Ether(dst="\(mac)") / part)
            out(Ether(dst="\(mac)") / IP(src="9.9.9.9", dst="192.168.1.10", frag=1, proto=6) / Raw("x" * 24))
            for source in ["10.1.2.3", "127.0.0.1", "224.0.0.1", "100.64.0.1", "192.168.1.10"]:
                out(Ether(dst="\(mac)") / IP(src=source, dst="192.168.1.10") / UDP(sport=1000, dport=7001))
            out(Ether(dst="\(mac)") / IPv6(src="fd00:1::10", dst="fd00:1::10") / UDP(sport=1000, dport=7001))
            six = IPv6(src="2001:db8:1::1", dst="fd00:1::10")
            out(Ether(dst="\(mac)") / six / IPv6ExtHdrFragment(offset=0, m=1, id=7) / UDP(sport=1000, dport=7001))
            out(to / UDP(sport=1000, dport=7001) / "well")
            """)
        #expect(server.wait(seconds: 2))
        #expect(server.receive().bytes == Array("well".utf8))
        #expect(!server.wait(seconds: 0.3))
        #expect(try counted("flags") == 8)
        #expect(try counted("fragments") == 4 + 1, "three of a datagram, a tiny one, and one of IPv6")
        #expect(try counted("bogons") == 6)
        let explained = try box.run(
            [
                "explain", "--from", "10.1.2.3", "--to", "192.168.1.10", "--protocol", "udp", "--port", "7001", "--in",
                "wan",
            ])
        #expect(
            explained.text.contains("firewall.protection[0], site.yaml:"), "\(explained.text)\(explained.errorText)")
    }

    @Test func whatIsExplainedLeavesNoRuleOpen() throws {
        // Or no connection of a protected zone could ever be judged.
        for (from, to, transport) in [
            ("9.9.9.9", "192.168.1.10", "tcp"), ("9.9.9.9", "203.0.113.2", "udp"),
            ("2001:db8:1::1", "fd00:1::10", "tcp"),
        ] {
            let answer = try box.ask(
                "explain-packet",
                [
                    "interface": "wan", "from": .text(from), "to": .text(to), "protocol": .text(transport),
                    "port": 7000,
                ])
            #expect(answer["unknown"] == [] && answer["end"] != nil, "\(from): \(answer.pretty)")
        }
    }

    @Test func whoFloodsIsBlockedAndOthersAreNot() throws {
        let address = try #require(IPAddress("192.168.1.10"))
        let server = try ProofSocket(network.namespace(.lan), .ipv4, isStream: false)
        try server.bind(address, port: 7002, listen: false)
        func reaches(_ from: String, _ port: Int) throws -> Bool {
            while server.wait(seconds: 0) { _ = server.receive() }
            let client = try ProofSocket(network.namespace(.wan), .ipv4, isStream: false)
            try client.bind(try #require(IPAddress(from)), port: port, listen: false)
            _ = client.send([1], to: address, port: 7002)
            return server.wait(seconds: 0.5)
        }
        #expect(try reaches("9.9.9.9", 30000) && reaches("9.9.9.10", 30000))
        // Two hundred connections in a tenth of a second: forty may be new at once.
        _ = try run(
            .wan, "hping3", "-2", "-q", "-a", "9.9.9.9", "-p", "7002", "-s", "2000", "-c", "200", "-i", "u500",
            "192.168.1.10")
        #expect(try counted("connections") > 0)
        #expect(try !reaches("9.9.9.9", 30001))
        #expect(try reaches("9.9.9.10", 30001))
        let blocked = try box.vcpectl("firewall", "blocked").text
        #expect(blocked.contains("9.9.9.9  its limit  in ") && !blocked.contains("9.9.9.10"), "\(blocked)")
        // It ends by itself, or by an operator.
        _ = try box.vcpectl("firewall", "unblock", "9.9.9.9")
        #expect(try reaches("9.9.9.9", 30002))
        _ = try run(
            .wan, "hping3", "-2", "-q", "-a", "9.9.9.9", "-p", "7002", "-s", "4000", "-c", "200", "-i", "u500",
            "192.168.1.10")
        #expect(try !reaches("9.9.9.9", 30003))
        sleep(5)
        #expect(try reaches("9.9.9.9", 30004))
        let after = try box.vcpectl("firewall", "blocked").text
        #expect(!after.contains("its limit"), "\(after)")
    }

    @Test func everySourceHasALimitOfItsOwn() throws {
        let address = try #require(IPAddress("192.168.1.10"))
        for (port, most) in [(7500, 3), (7501, 2)] {
            let server = try ProofSocket(network.namespace(.lan), .ipv4, isStream: false)
            try server.bind(address, port: port, listen: false)
            for source in ["9.9.9.9", "9.9.9.10"] {
                var clients: [ProofSocket] = []
                for _ in 0..<6 {
                    let client = try ProofSocket(network.namespace(.wan), .ipv4, isStream: false)
                    try client.bind(try #require(IPAddress(source)), port: 0, listen: false)
                    _ = client.send([1], to: address, port: port)
                    clients.append(client)
                }
                var seen = 0
                while server.wait(seconds: 0.3) {
                    if server.receive().peer?.description == source { seen += 1 }
                }
                #expect(seen == most, "port \(port) from \(source)")
            }
        }
    }

    @Test func serversSeeNoneOfAFloodOfSYNs() throws {
        let (address, wan) = (try #require(IPAddress("192.168.1.10")), try network.namespace(.wan))
        let server = try ProofSocket(network.namespace(.lan), .ipv4, isStream: true)
        try server.bind(address, port: 443, listen: true)
        let client = try ProofSocket(wan, .ipv4, isStream: true)
        try client.bind(try #require(IPAddress("9.9.9.9")), port: 0, listen: false)
        #expect(client.connect(address, port: 443) == 0)
        #expect(client.wait(seconds: 3, writing: true) && client.pendingError() == 0, "\(box.log)")
        #expect(client.send(Array("hello".utf8)) == 0)
        #expect(server.wait(seconds: 3))
        let (accepted, peer) = try #require(server.accept())
        #expect(peer?.description == "9.9.9.9")
        #expect(accepted.wait(seconds: 3) && accepted.receive().bytes == Array("hello".utf8))
        #expect(accepted.send(Array("welcome".utf8)) == 0)
        #expect(client.wait(seconds: 3) && client.receive().bytes == Array("welcome".utf8))
        // Where no rule accepts, nobody is answered, and no server hears of it.
        _ = try network.namespace(.lan).run {
            try Command("ip", ["addr", "replace", "192.168.1.11/24", "dev", "lan"]).check()
        }
        let other = try ProofSocket(network.namespace(.lan), .ipv4, isStream: true)
        try other.bind(try #require(IPAddress("192.168.1.11")), port: 443, listen: true)
        let stranger = try ProofSocket(wan, .ipv4, isStream: true)
        try stranger.bind(try #require(IPAddress("9.9.9.9")), port: 0, listen: false)
        _ = stranger.connect(try #require(IPAddress("192.168.1.11")), port: 443)
        #expect(!stranger.wait(seconds: 1, writing: true) && !other.wait(seconds: 0.2))
        // Ten thousand first packets from as many sources, none of which ever answers.
        _ = try network.namespace(.lan).run {
            try Command(
                "nft",
                [
                    "add table ip see; add chain ip see c { type filter hook prerouting priority -300; }; "
                        + "add rule ip see c tcp flags & (syn|ack) == syn counter"
                ]
            ).check()
        }
        _ = try run(
            .wan, "hping3", "-S", "-q", "--rand-source", "-p", "443", "-c", "10000", "-i", "u20", "192.168.1.10")
        let said = try network.namespace(.lan).run { try Command("nft", ["list", "table", "ip", "see"]).check().text }
        #expect(said.contains("packets 0 "), "\(said)")
        let tracked = try box.box.run { try Command("conntrack", ["-C"]).check().text }
        #expect((Int(tracked.split(separator: "\n")[0]) ?? .max) < 100, "\(tracked)")
        // Who was connected goes on.
        #expect(client.send(Array("again".utf8)) == 0)
        #expect(accepted.wait(seconds: 3) && accepted.receive().bytes == Array("again".utf8))
    }

    @Test func anUnaskedStrangerSeesNothing() throws {
        // Every port of TCP, and UDP's common ones, of the box and of a host behind it.
        let scan = try run(
            .wan, "nmap", "-n", "-Pn", "-sS", "-p-", "--min-rate", "20000", "--max-retries", "0", "-T5", "-S",
            "9.9.9.10", "-e", "wan",
            "203.0.113.2")
        // The one that the site forwards is closed by its host.
        #expect(scan.text.contains("Not shown: 65534 filtered tcp ports (no-response)"), "\(scan.text)")
        #expect(scan.text.contains("8080/tcp closed"), "\(scan.text)")
        let udp = try run(
            .wan, "nmap", "-n", "-Pn", "-sU", "--top-ports", "100", "--min-rate", "2000", "--max-retries", "0", "-T5",
            "203.0.113.2")
        #expect(udp.text.contains("100 open|filtered udp ports (no-response)"), "\(udp.text)")
    }
}
