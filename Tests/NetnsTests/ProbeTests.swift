import Addresses
import Files
import Glibc
@testable import ImageBuilder
import PluginKit
import Processes
import TestSupport
import Testing

/// The probes of `vcpe test` against boxes with known faults: each leak must be counted, each answer observed.
@Suite(.serialized) final class ProbeTests {
    private let folder: String
    private let box: NetworkNamespace
    private let network: ProofNetwork

    init() throws {
        folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-probe")
        box = try NetworkNamespace()
        let addresses = [
            ("wan", "203.0.113.2/24"), ("wan", "2001:db8:1::2/64"), ("lan", "192.168.1.1/24"), ("lan", "fd00:1::1/64"),
        ]
        let plan = addresses.compactMap { link, text in
            IPPrefix(text).map { Resource(AddressResource(link: link, $0)) }
        }
        network = try ProofNetwork(plan: plan, box: box, folder: folder)
    }

    deinit { try? FileSystem.remove(folder) }

    private func inBox(_ script: String) throws {
        try box.run { _ = try Command("sh", ["-ec", script]).check() }
    }

    /// A router of the host's kernel: eth0 is its WAN, eth1 its LAN.
    private func route() throws {
        try inBox(
            """
            ip addr add 203.0.113.2/24 dev eth0; ip addr add 192.168.1.1/24 dev eth1
            ip addr add 2001:db8:1::2/64 dev eth0 nodad; ip addr add fd00:1::1/64 dev eth1 nodad
            ip link set eth0 up; ip link set eth1 up
            for name in all default eth0 eth1; do echo 0 >/proc/sys/net/ipv4/conf/$name/rp_filter; done
            echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
            # Until neighbour discovery works.
            for host in 2001:db8:1::1 fd00:1::10; do
                for i in $(seq 50); do ping -6 -c 1 -W 1 $host >/dev/null && break || sleep 0.1; done
            done
            """)
    }

    /// Sends for a while.
    private func send(_ policy: ProbePolicy? = nil) throws -> ProbeTraffic.Counts {
        let traffic = try ProbeTraffic(network, policy: policy)
        defer { traffic.stop() }
        _ = Wait.until(10) { traffic.now.tallies.allSatisfy { $0.sent > 20 } }
        usleep(300_000)
        return traffic.now
    }

    private func kinds(_ counts: ProbeTraffic.Counts, from place: Proof.Endpoint) -> Set<String> {
        Set(
            counts.tallies.filter { $0.from == place && $0.leaked > 0 }.map {
                "\($0.kind.form.rawValue)/\($0.kind.family)"
            }
        )
    }

    @Test func aRouterWithoutPolicyLeaksEveryKind() throws {
        try route()
        let counts = try send()
        #expect(counts.tallies.count == 28 && counts.tallies.allSatisfy { $0.sent > 20 })
        // Without VLAN devices a router discards tagged frames. ICMPv6 echo requests may pass (RFC 4890).
        #expect(
            kinds(counts, from: .wan) == [
                "udp/ipv4", "tcp-syn/ipv4", "tcp-ack/ipv4", "icmp/ipv4", "fragments/ipv4", "spoofed/ipv4", "udp/ipv6",
                "tcp-syn/ipv6", "tcp-ack/ipv6", "fragments/ipv6", "spoofed/ipv6",
            ])
        // The LAN's addresses appear on the WAN in IPv4, where they must be translated; foreign ones in both.
        #expect(
            kinds(counts, from: .lan) == [
                "udp/ipv4", "tcp-syn/ipv4", "tcp-ack/ipv4", "icmp/ipv4", "fragments/ipv4", "spoofed/ipv4",
                "spoofed/ipv6",
            ])
        #expect(counts.firstForwarded == nil, "nothing was translated")
    }

    @Test func aBridgeLeaksTaggedFrames() throws {
        try inBox(
            "ip link add br0 type bridge; for i in 0 1; do ip link set eth$i master br0 up; done; ip link set br0 up")
        let counts = try send()
        #expect(kinds(counts, from: .wan).isSuperset(of: ["vlan/ipv4", "vlan/ipv6"]))
        #expect(kinds(counts, from: .lan).isSuperset(of: ["vlan/ipv4", "vlan/ipv6"]))
    }

    @Test func aFirewallThatTranslatesLeaksNothing() throws {
        try route()
        try inBox(
            """
            nft -f - <<'X'
            table inet t {
              chain f { type filter hook forward priority 0; policy drop; iifname eth1 ip saddr 192.168.1.0/24 accept
                iifname eth1 ip6 saddr fd00:1::/64 accept; ct state established accept; }
              chain n { type nat hook postrouting priority 100; oifname eth0 meta nfproto ipv4 masquerade; }
            }
            X
            """)
        let counts = try send()
        #expect(counts.leaked == 0 && counts.missed == 0, "\(counts.tallies.filter { $0.leaked > 0 })")
        #expect(counts.source == IPAddress("203.0.113.2"))
        let arrived = counts.tallies.filter { $0.from == .lan && $0.arrived > 0 }
        #expect(arrived.count == 10, "\(arrived)")
        // A proof can forbid what the default allows.
        let forbidden = Proof(
            name: "no UDP", from: .lan, to: .wan, family: .ipv4, probe: .udp(port: 9), outcome: .dropped)
        let strict = try send(ProbePolicy([forbidden], lan: network.side(.lan).network4))
        #expect(kinds(strict, from: .lan) == ["udp/ipv4", "fragments/ipv4"])
    }

    @Test func aBoxThatDropsEverythingStillAnswersForItsAddress() throws {
        try route()
        try inBox("nft 'table inet t { chain i { type filter hook input priority 0; policy drop; }; }'")
        let answer = try NeighbourProbe(network, .lan).ask(network.side(.lan).box4, seconds: 5)
        #expect(answer == "ARP reply from 192.168.1.1")
        #expect(try NeighbourProbe(network, .wan).ask(network.side(.wan).box4, seconds: 5) != nil)
    }

    @Test func neighbourDiscoveryFindsABoxWithoutIPv4() throws {
        try inBox("ip link set eth1 up; sleep 2")
        let answer = try NeighbourProbe(network, .lan).ask(nil, seconds: 5)
        #expect(answer == "neighbour advertisement from fe80::5054:ff:fe00:2")
    }

    @Test func aDeadPortAnswersNothing() throws {
        #expect(try NeighbourProbe(network, .lan).ask(network.side(.lan).box4, seconds: 2) == nil)
    }

    @Test func theBoxsOwnServiceAnswers() throws {
        try route()
        let server = """
            import socket, threading
            def serve(port, greeting):
                listener = socket.create_server(("0.0.0.0", port))
                held = []
                while True:
                    connection, _ = listener.accept()
                    if greeting is None: connection.close(); continue
                    connection.sendall(greeting)
                    held.append(connection)
            threading.Thread(target=serve, args=(22, b"SSH-2.0-test\\r\\n"), daemon=True).start()
            threading.Thread(target=serve, args=(80, b""), daemon=True).start()
            serve(81, None)
            """
        let process = try box.run {
            try Command("python3", ["-c", server]).start(output: File("/dev/null", O_WRONLY))
        }
        defer { process.kill() }
        let probing = Probing(network: network, boxOnWAN: nil)
        func passes(_ port: Int, _ greeting: String? = nil, _ outcome: Proof.Outcome = .answered) throws -> Bool {
            try probing.attempt(
                Proof(
                    name: "\(port)", from: .lan, to: .box, family: .ipv4, probe: .tcp(port: port), outcome: outcome,
                    greeting: greeting)
            ).passed
        }
        #expect(try Wait.until(10) { try passes(22) && passes(80) })
        #expect(try passes(22, "SSH-2.0") && passes(80))
        // Another service, a silent one, one that closes at once, and none.
        #expect(try !passes(22, "220 ") && !passes(80, "SSH-2.0") && !passes(81) && !passes(82))
        #expect(try passes(82, nil, .rejected) && !passes(22, nil, .rejected) && !passes(22, nil, .dropped))
    }

    /// A sender without a route sends nothing, which fulfils no expectation.
    @Test func whatWasNotSentFailsEveryProof() throws {
        try network.namespace(.lan).run {
            _ = try Command("sh", ["-ec", "ip route flush default; ip -6 route flush default"]).check()
        }
        let probing = Probing(network: network, boxOnWAN: nil)
        for family in IPAddress.Family.allCases {
            for outcome in Proof.Outcome.allCases {
                for probe in [Proof.Probe.tcp(port: 80), .udp(port: 80), .ping] {
                    let proof = Proof(
                        name: "x", from: .lan, to: .wan, family: family, probe: probe, outcome: outcome)
                    let result = try probing.attempt(proof)
                    #expect(!result.passed && result.seen.hasPrefix("not sent: "), "\(proof): \(result.seen)")
                }
            }
        }
    }

    /// A dead neighbour is not a refusal by the box.
    @Test func anUnreachableNeighbourIsNotARefusal() throws {
        let probing = Probing(network: network, boxOnWAN: nil)
        let ping = Proof(name: "x", from: .lan, to: .box, family: .ipv4, probe: .ping, outcome: .rejected)
        try network.namespace(.lan).run { _ = try Command("ip", ["neigh", "flush", "dev", "lan"]).check() }
        for _ in 0..<3 { #expect(try !probing.attempt(ping).passed) }
    }
}
