import Addresses
import Documents
import Files
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// What the hosts of a LAN get from the box: their bandwidth, protection from each other, and the size of packets that pass.
@Suite(.serialized) struct HostTests {
    private static let site = BoxInNetwork.site.editing(
        "  rules:\n",
        with: """
              groups:
                - {name: slow, members: [192.168.1.20], bandwidth: {download: 8mbit, upload: 4mbit, zone: wan}}
                - {name: pair, members: [192.168.1.30, 192.168.1.31], bandwidth: {upload: 4mbit, each: true}}
              protection:
                - {zone: lan, ra-guard: true, dhcp-guard: true}
              rules:

            """)

    private let box: BoxInNetwork
    private let network: ProofNetwork

    init() throws {
        box = try BoxInNetwork.ready(site: Self.site)
        network = try #require(box.network)
        #expect(try box.ask("status")["trouble"] == nil, "\(box.log)")
        try inLAN("ip route replace default via 192.168.1.1", "ip -6 route replace default via fd00:1::1")
        try inLAN("ip addr replace 192.168.1.20/24 dev lan")
    }

    private func run(_ place: NetworkNamespace, _ line: String) throws -> Command.Result {
        let words = line.split(separator: " ").map(String.init)
        return try place.run {
            try Command(words[0], Array(words.dropFirst())).begin().finish(deadline: 30, limit: 1 << 20)
        }
    }

    private func inLAN(_ lines: String...) throws {
        for line in lines {
            let result = try run(network.namespace(.lan), line)
            #expect(result.status == 0, "\(line): \(result.errorText)")
        }
    }

    /// A server of iperf3 in the WAN for one connection after the other.
    private func server(_ port: Int) throws -> RunningProcess {
        let log = try File("\(box.folder)/iperf-\(port).log", O_WRONLY | O_CREAT | O_TRUNC)
        return try network.namespace(.wan).run { try Command("iperf3", ["-s", "-p", "\(port)"]).start(output: log) }
    }

    /// Megabits a second that got there, of clients that send, or receive, at the same time.
    private func speeds(_ sources: String..., options: String = "") throws -> [Double] {
        let lines = sources.enumerated().map { i, source in
            "iperf3 -c 203.0.113.1 -p \(5201 + i) -B \(source) -J -t 2 -O 1 \(options)"
                + " | jq .end.sum_received.bits_per_second > \(box.folder)/speed-\(i) &"
        }
        var speeds: [Double] = []
        // The servers take a moment to begin, and to be ready for the next.
        _ = try Wait.until(20) {
            _ = try network.namespace(.lan).run {
                try Command("sh", ["-c", lines.joined(separator: "\n") + "\nwait"]).begin().finish(
                    deadline: 30, limit: 1000)
            }
            speeds = sources.indices.compactMap { i in
                let text = (try? FileSystem.read("\(box.folder)/speed-\(i)")).map {
                    String(decoding: $0, as: UTF8.self)
                }
                return text?.split(separator: "\n").first.flatMap { Double($0) }.map { $0 / 1e6 }
            }
            return speeds.count == sources.count
        }
        #expect(speeds.count == sources.count)
        return speeds.count == sources.count ? speeds : sources.map { _ in 0 }
    }

    @Test func aGroupHasItsBandwidthAndOthersTheirs() throws {
        let servers = try [5201, 5202].map(server)
        defer { for server in servers { server.kill() } }
        func both(_ source: String) throws -> [Double] { try speeds(source) + speeds(source, options: "-R") }
        func areHeld(_ speeds: [Double]) -> Bool { (1.5...4.8).contains(speeds[0]) && (3...9.6).contains(speeds[1]) }
        func rules() throws -> String {
            try box.box.run {
                try Command("nft", ["-s", "list", "chain", "inet", "vcpe", "firewall.bandwidth"]).check().text
            }
        }
        let free = try both("192.168.1.10")
        #expect(free.allSatisfy { $0 > 50 }, "\(free)")
        let held = try both("192.168.1.20")
        #expect(areHeld(held), "\(held)")
        // Two members by themselves, each up to its own.
        try inLAN("ip addr replace 192.168.1.30/24 dev lan", "ip addr replace 192.168.1.31/24 dev lan")
        let pair = try speeds("192.168.1.30", "192.168.1.31")
        #expect(pair.allSatisfy { (1.5...4.8).contains($0) }, "\(pair)")
        // Who comes by its hardware address is held to it both ways, and no rule is touched.
        let before = try rules()
        let link = try run(network.namespace(.lan), "ip -br link show dev lan").text.split(separator: " ")
        let mac = try #require(link.dropFirst(2).first.flatMap { MACAddress(String($0)) }).description
        #expect(try box.vcpectl("feed", "firewall.group.slow", "add", mac, "--for", "1h").status == 0)
        let late = try both("192.168.1.10")
        #expect(areHeld(late), "\(late)")
        #expect(try rules() == before)
    }

    @Test func nobodyInTheLANPretendsToBeARouterOrAServer() throws {
        // Another host of the same bridge, who believes what it hears.
        let other = try NetworkNamespace()
        try box.box.run {
            // Behind all ports in their order, so that it is nobody else's.
            let line = "link add lan-2 address 5e:00:00:00:00:01 master lan up type veth peer name eth0"
            try Command("ip", line.split(separator: " ").map(String.init) + ["netns", other.path]).check()
        }
        try other.run {
            for (key, value) in [("accept_ra", "1"), ("accept_dad", "0"), ("autoconf", "1")] {
                try File("/proc/sys/net/ipv6/conf/eth0/\(key)", O_WRONLY).write(Array(value.utf8), at: 0)
            }
        }
        #expect(try run(other, "ip link set eth0 up").status == 0)
        #expect(try run(other, "ip addr add fd00:1::77/64 dev eth0 nodad").status == 0)
        func advertise(_ prefix: String) throws {
            let code = """
                from scapy.all import *
                conf.verb = 0
                sendp(Ether(dst="33:33:00:00:00:01") / IPv6(src="fe80::bad", dst="ff02::1") / ICMPv6ND_RA()
                    / ICMPv6NDOptPrefixInfo(prefix="\(prefix)::", prefixlen=64), iface="lan")
                sendp(Ether(dst="ff:ff:ff:ff:ff:ff") / IP(src="192.168.1.66", dst="255.255.255.255")
                    / UDP(sport=67, dport=68) / BOOTP(op=2) / DHCP(options=[("message-type", "offer"), "end"]), iface="lan")
                """
            let result = try network.namespace(.lan).run { try Command("/usr/bin/python3", ["-c", code]).run() }
            #expect(result.status == 0, "\(result.errorText)")
        }
        func addresses() throws -> String { try run(other, "ip -6 addr show dev eth0").text }
        let client = try ProofSocket(other, .ipv4, isStream: false)
        try client.bind(try #require(IPAddress("0.0.0.0")), port: 68, listen: false)
        // Neighbours are found, through the same ports.
        let pings = try run(network.namespace(.lan), "ping -6 -c 1 -W 3 fd00:1::77")
        #expect(pings.status == 0, "\(pings.text)")
        try advertise("2001:db8:bad")
        usleep(500_000)
        #expect(try !addresses().contains("2001:db8:bad"))
        #expect(!client.wait(seconds: 0.2))
        for what in ["routers", "dhcp"] {
            #expect(try box.ask("counters")["firewall.protection.lan.\(what)"]?["packets"]?.integer == 1, "\(what)")
        }
        // Without the guard it works, which is why there is one.
        let open = Self.site.editing("ra-guard: true, dhcp-guard: true", with: "ra-guard: false")
        #expect(try box.apply(open) == nil)
        try advertise("2001:db8:bad")
        #expect(try Wait.until(5) { try addresses().contains("2001:db8:bad") })
        #expect(client.wait(seconds: 1))
    }

    @Test func theSizeThatAFarLinkTakesIsLearnt() throws {
        // Behind the provider a link that takes 1300 bytes.
        let far = try NetworkNamespace()
        _ = try network.namespace(.wan).run {
            for line in [
                "link add far mtu 1300 up type veth peer name eth0 netns \(far.path)",
                "addr add 198.51.100.1/24 dev far", "-6 addr add 2001:db8:f::1/64 dev far nodad",
            ] { try Command("ip", line.split(separator: " ").map(String.init)).check() }
            for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                try File("/proc/sys/net/\(key)", O_WRONLY).write(Array("1".utf8), at: 0)
            }
            try Command("ip", ["-6", "route", "replace", "fd00:1::/64", "via", "2001:db8:1::2"]).check()
        }
        for line in [
            "ip link set eth0 mtu 1300 up", "ip addr add 198.51.100.7/24 dev eth0",
            "ip -6 addr add 2001:db8:f::7/64 dev eth0 nodad",
            "ip route add default via 198.51.100.1", "ip -6 route add default via 2001:db8:f::1",
        ] {
            let result = try run(far, line)
            #expect(result.status == 0, "\(line): \(result.errorText)")
        }
        _ = try box.box.run {
            for (family, to, via) in [
                ("-4", "198.51.100.0/24", "203.0.113.1"), ("-6", "2001:db8:f::/64", "2001:db8:1::1"),
            ] {
                try Command("ip", [family, "route", "replace", to, "via", via]).check()
            }
        }
        let lan = try network.namespace(.lan)
        // The provider's router says so to the box's address, and the host that it stands for hears it.
        for (family, to, words) in [("-4", "198.51.100.7", "mtu = 1300"), ("-6", "2001:db8:f::7", "mtu=1300")] {
            let small = try run(lan, "ping \(family) -c 1 -W 3 -M do -s 1000 \(to)")
            #expect(small.status == 0, "\(small.text)")
            let large = try run(lan, "ping \(family) -c 2 -W 2 -M do -s 1400 \(to)")
            #expect(
                large.status != 0 && (large.text + large.errorText).contains(words), "\(large.text) \(large.errorText)")
        }
        // TCP that begins with segments too large arrives whole, there and from there.
        try FileSystem.replace("\(box.folder)/big", with: [UInt8](repeating: 7, count: 300_000))
        func serve(_ place: NetworkNamespace, _ port: Int) throws -> RunningProcess {
            let log = try File("\(box.folder)/http-\(port).log", O_WRONLY | O_CREAT | O_TRUNC)
            return try place.run {
                try Command("/usr/bin/python3", ["-m", "http.server", "-d", box.folder, "\(port)"]).start(output: log)
            }
        }
        let servers = [try serve(far, 8000), try serve(lan, 80)]
        defer { for server in servers { server.kill() } }
        func fetched(_ place: NetworkNamespace, _ url: String) throws -> String {
            try run(place, "curl -sS --max-time 10 -o /dev/null -w %{size_download} \(url)/big").text
        }
        #expect(try Wait.until { try fetched(lan, "http://198.51.100.7:8000") == "300000" })
        try inLAN("ip route flush cache")
        #expect(try Wait.until { try fetched(far, "http://203.0.113.2:8080") == "300000" })
    }

    /// RFC 6092 as the factory's site has it: whoever calls a host by IPsec or HIP in IPv6 reaches it, and by nothing else.
    @Test func hostsAreReachedByIPsecInIPv6AsTheFactorysSiteHasIt() throws {
        let factory = String(
            decoding: try FileSystem.read("\(BoxInNetwork.repository)/images/branch-office.site.yaml"), as: UTF8.self)
        let rules = factory.split(separator: "\n").filter {
            $0.contains("from: wan, to: lan") && $0.contains("- {name")
        }
        #expect(rules.count == 3)
        #expect(
            try box.apply(
                BoxInNetwork.site.editing("  rules:\n", with: "  rules:\n\(rules.joined(separator: "\n"))\n")) == nil)
        _ = try network.namespace(.wan).run {
            try Command("ip", ["-6", "route", "replace", "fd00:1::/64", "via", "2001:db8:1::2"]).check()
        }
        // What gets there, by its protocol and port.
        let listener = try network.namespace(.lan).run {
            try Command(
                "/usr/bin/python3",
                [
                    "-c",
                    """
                    from scapy.all import *
                    def see(p):
                        if IPv6 in p and p[IPv6].src == "2001:db8:1::10":
                            print(p[IPv6].nh, p[UDP].dport if UDP in p else 0, flush=True)
                    sniff(iface="lan", prn=see, store=0, started_callback=lambda: print("ready", flush=True))
                    """,
                ]
            ).start(output: try File("\(box.folder)/seen", O_WRONLY | O_CREAT | O_TRUNC))
        }
        defer { listener.kill() }
        func seen() throws -> String { String(decoding: try FileSystem.read("\(box.folder)/seen"), as: UTF8.self) }
        #expect(try Wait.until { try seen().contains("ready") })
        let sent = try network.namespace(.wan).run {
            try Command(
                "/usr/bin/python3",
                [
                    "-c",
                    """
                    from scapy.all import *
                    conf.verb = 0
                    to = Ether(dst="\(try network.side(.wan).boxMAC)") / IPv6(src="2001:db8:1::10", dst="fd00:1::10")
                    for packet in [UDP(sport=500, dport=500) / "x", UDP(sport=4500, dport=4500) / "x", UDP(sport=7, dport=501) / "x",
                                   TCP(sport=7, dport=500)]:
                        sendp(to / packet, iface="wan")
                    for protocol in [50, 51, 139, 47]:
                        packet = to.copy()
                        packet[IPv6].nh = protocol
                        sendp(packet / Raw(bytes([59, 4]) + bytes(22)), iface="wan")
                    """,
                ]
            ).run()
        }
        #expect(sent.status == 0, "\(sent.errorText)")
        let isThrough = try Wait.until(5) { try seen().contains("139 0") }
        #expect(isThrough)
        usleep(300_000)
        // Of an authentication header (51) the kernel tells what is behind it, and judges that.
        #expect(try Set(seen().split(separator: "\n")) == ["ready", "17 500", "17 4500", "50 0", "139 0"])
        // UDP that nobody answers is remembered for two minutes.
        let timeout = try box.box.run {
            try Command("cat", ["/proc/sys/net/netfilter/nf_conntrack_udp_timeout"]).check().text
        }
        #expect(timeout == "120\n")
    }
}
