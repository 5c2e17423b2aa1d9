@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// Networks of a box's own prefix (RFC 4193).
@Suite(.serialized) struct UniqueLocalTests {
    @Test func theLANReachesTheBoxByItsOwnPrefix() throws {
        let site = BoxInNetwork.site.editing(
            "ipv6: {addresses: [\"fd00:1::1/64\"]}", with: "ipv6: {unique-local: 255}")
        let box = try BoxInNetwork.ready(site: site, machineID: "0123456789abcdef0123456789abcdef")
        let addresses = try box.box.run { try Command("ip", ["-6", "-o", "addr", "show", "lan"]).check() }.text
        #expect(addresses.contains("fdeb:1aa9:9717:ff::1/64"))
        // The LAN's host has the address 10 of the planned network.
        let answer = try #require(box.network).namespace(.lan).run {
            try Command("ping", ["-c", "3", "-i", "0.3", "-w", "10", "fdeb:1aa9:9717:ff::1"]).run()
        }
        #expect(answer.status == 0, "\(answer.text)\(answer.errorText)")
        let route = try box.box.run { try Command("ip", ["-6", "route", "get", "fdeb:1aa9:9717:1::1"]).run() }
        #expect(route.status != 0, "\(route.text)")
        let shown = try box.vcpectl("network", "prefix").text
        #expect(shown.contains("fdeb:1aa9:9717::/48") && shown.contains("fdeb:1aa9:9717:ff::/64"))
    }
}
