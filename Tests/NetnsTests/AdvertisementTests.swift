import Documents
import Files
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// A neighbour on the WAN who advertises the LAN's network, or asks for its addresses.
@Suite(.serialized) struct AdvertisementTests {
    private static let site = BoxInNetwork.site.editing(
        "ipv6: {addresses: [\"2001:db8:1::2/64\"]}",
        with: "ipv6: {addresses: [\"2001:db8:1::2/64\"], router-advertisements: true}")

    private let box: BoxInNetwork
    private let network: ProofNetwork

    init() throws {
        box = try BoxInNetwork.ready(site: Self.site)
        network = try #require(box.network)
    }

    private func onBox(_ line: String) throws -> String {
        let words = line.split(separator: " ").map(String.init)
        return try box.box.run { try Command(words[0], Array(words.dropFirst())).run() }.text
    }

    private func scapy(_ side: Proof.Endpoint, _ code: String) throws -> String {
        let result = try network.namespace(side).run {
            try Command("/usr/bin/python3", ["-c", "from scapy.all import *\nconf.verb = 0\n\(code)"]).run()
        }
        #expect(result.status == 0, "\(result.errorText)")
        return result.text
    }

    private func route() throws -> String { try onBox("ip -6 route get fd00:1::10") }

    /// A site's route to a part of the LAN's prefix, which the table of own networks must have,
    /// too.
    @Test func aRouteWithinAnOwnNetworkIsFollowed() throws {
        #expect(try route().contains("dev lan") && !route().contains("via"), "\(box.log)")
        let routed = Self.site.editing(
            "  interfaces:\n", with: "  routes: [{to: \"fd00:1::5:0/112\", via: \"fd00:1::99\"}]\n  interfaces:\n")
        #expect(try box.apply(routed) == nil)
        #expect(try onBox("ip -6 route get fd00:1::5:1").contains("via fd00:1::99"))
        #expect(try route().contains("dev lan") && !route().contains("via"))
    }

    /// The review's attack: the LAN's prefix, a part of it, a high preference, then the LAN goes
    /// down and up.
    @Test func anAdvertisementTakesNoNetworkOfTheBox() throws {
        #expect(try route().contains("dev lan"), "\(box.log)")
        func advertise() throws {
            _ = try scapy(
                .wan,
                """
                sendp(Ether(dst="33:33:00:00:00:01") / IPv6(src="fe80::bad", dst="ff02::1")
                    / ICMPv6ND_RA(prf=1, routerlifetime=1800)
                    / ICMPv6NDOptPrefixInfo(prefix="fd00:1::", prefixlen=64)
                    / ICMPv6NDOptPrefixInfo(prefix="fd00:1::", prefixlen=120)
                    / ICMPv6NDOptPrefixInfo(prefix="2001:db8:77::", prefixlen=64), iface="wan")
                """)
        }
        try advertise()
        // Others are taken.
        #expect(try Wait.until(5) { try onBox("ip -6 addr show dev wan").contains("2001:db8:77:") })
        #expect(try route().contains("dev lan"))
        _ = try onBox("ip link set lan down")
        #expect(try !route().contains("dev wan"))
        try advertise()
        #expect(try !route().contains("dev wan"))
        _ = try onBox("ip link set lan up")
        var seen = ""
        let isBack = try Wait.until(10) {
            seen = try route()
            #expect(!seen.contains("dev wan"), "\(seen)")
            return seen.contains("dev lan")
        }
        #expect(isBack, "\(seen)")
        #expect(try route().contains("dev lan"))
        // A router's own word makes it no better.
        #expect(try !onBox("ip -6 route show default").contains("pref high"))
        // And the LAN is reached.
        let ping = try network.namespace(.lan).run {
            try Command("ping", ["-6", "-c", "1", "-W", "5", "2001:db8:1::2"]).run()
        }
        #expect(ping.text.contains("bytes from") || ping.status == 1, "\(ping.text)")
    }

    /// A router answers for its addresses on their own links alone.
    @Test func theWANLearnsNoAddressOfTheLAN() throws {
        func asked(_ address: String) throws -> String {
            try scapy(
                .wan,
                """
                found = srp(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst="\(address)"), iface="wan", timeout=2)[0]
                print(len(found))
                """
            ).trimmed
        }
        #expect(try asked("203.0.113.2") == "1")
        #expect(try asked("192.168.1.1") == "0")
    }
}

extension String {
    fileprivate var trimmed: String { String(split(whereSeparator: \.isWhitespace).joined()) }
}
