import Documents
import Files
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// A host on the WAN that calls each address of the LAN's network, with the rules of the factory's
/// site.
@Suite(.serialized) struct NeighbourFloodTests {
    private static let attack = """
        import os, random, socket, struct, sys
        out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        out.bind(("wan", 0))
        ether = bytes.fromhex(sys.argv[1].replace(":", "")) + bytes.fromhex("020000000099") + b"\\x86\\xdd"
        net = lambda text: socket.inet_pton(socket.AF_INET6, text)[:8]
        source, target = net("2001:db8:1::"), net("fd00:1::")
        for _ in range(63000):
            # A source that is another for each packet: no limit of a source holds it.
            a, b = source + os.urandom(8), target + os.urandom(8)
            udp = struct.pack("!HHH", random.randrange(1024, 65536), 500, 12)
            pseudo = a + b + struct.pack("!II", 12, 17) + udp + b"\\0\\0ikex"
            total = sum(struct.unpack("!%dH" % (len(pseudo) // 2), pseudo))
            while total >> 16: total = (total & 0xffff) + (total >> 16)
            packet = struct.pack("!IHBB", 6 << 28, 12, 17, 64) + a + b + udp
            try:
                out.send(ether + packet + struct.pack("!H", ~total & 0xffff or 0xffff) + b"ikex")
            except OSError:
                pass
        """

    @Test func aFreshHostOfTheLANIsReachedAllTheSame() throws {
        let factory = String(
            decoding: try FileSystem.read("\(BoxInNetwork.repository)/images/branch-office.site.yaml"), as: UTF8.self)
        let rules = factory.split(separator: "\n").filter {
            $0.contains("from: wan, to: lan") && $0.contains("- {name")
        }
        let box = try BoxInNetwork.ready(
            site: BoxInNetwork.site.editing("  rules:\n", with: "  rules:\n\(rules.joined(separator: "\n"))\n"))
        let network = try #require(box.network)
        let (wan, lan) = (try network.namespace(.wan), try network.namespace(.lan))
        _ = try wan.run {
            try Command("ip", ["-6", "route", "replace", "fd00:1::/64", "via", "2001:db8:1::2"]).check()
        }
        let mac = "\(try network.side(.wan).boxMAC)"
        let flood = try wan.run { try Command("/usr/bin/python3", ["-c", Self.attack, mac]).run() }
        #expect(flood.status == 0, "\(flood.errorText)")
        // They met the rule, or this is no attack.
        let met = try box.ask("counters")["firewall.rule.ike"]?["packets"]?.integer ?? 0
        #expect(met > 50, "\(met)")
        let neighbours = try box.box.run { try Command("ip", ["-6", "neigh", "show", "dev", "lan"]).run().text }
        #expect(neighbours.split(separator: "\n").count < 600)
        _ = try lan.run { try Command("ip", ["-6", "addr", "add", "fd00:1::abcd/64", "dev", "lan", "nodad"]).check() }
        let pings = try box.box.run {
            try Command("ping", ["-6", "-c", "5", "-i", "0.2", "-W", "2", "fd00:1::abcd"]).run()
        }
        #expect(pings.text.contains(" 5 received"), "\(pings.text)")
    }
}
