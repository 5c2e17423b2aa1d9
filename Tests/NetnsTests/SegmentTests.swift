import Addresses
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// Segments of TCP over links of different MTUs.
@Suite(.serialized) struct SegmentTests {
    /// The largest segment that each end of a connection from the LAN to the WAN sends.
    private func segments(_ network: ProofNetwork, _ server: IPAddress) throws -> [Int32] {
        let listener = try ProofSocket(network.namespace(.wan), server.family, isStream: true)
        try listener.bind(server, port: 443, listen: true)
        let client = try ProofSocket(network.namespace(.lan), server.family, isStream: true)
        #expect(client.connect(server, port: 443) == 0)
        #expect(listener.wait(seconds: 10) && client.wait(seconds: 10, writing: true))
        let accepted = try #require(listener.accept()).socket
        return [client, accepted].map { socket in
            var (size, length) = (Int32(0), socklen_t(MemoryLayout<Int32>.size))
            getsockopt(socket.descriptor, Int32(IPPROTO_TCP), TCP_MAXSEG, &size, &length)
            return size
        }
    }

    /// No host learns of the small MTU but by the option: nothing is sent that would need ICMP.
    @Test func bothEndsHearOfTheSmallerMTU() throws {
        let site = BoxInNetwork.site.editing("port: order 1\n", with: "port: order 1\n      mtu: 1400\n")
        let box = try BoxInNetwork.ready(site: site)
        let network = try #require(box.network)
        let wan = try network.side(.wan)
        for words in ["route replace default via 192.168.1.1", "-6 route replace default via fd00:1::1"] {
            _ = try network.namespace(.lan).run {
                try Command("ip", words.split(separator: " ").map(String.init)).check()
            }
        }
        // Of a header of 20 bytes (IPv4) or 40 (IPv6), one of TCP of 20, and its timestamps of 12.
        #expect(try segments(network, wan.host4) == [1400 - 52, 1400 - 52])
        #expect(try segments(network, wan.host6) == [1400 - 72, 1400 - 72])
        // With one MTU nothing is rewritten.
        #expect(try box.apply(BoxInNetwork.site) == nil)
        #expect(try segments(network, wan.host4) == [1500 - 52, 1500 - 52])
        let rules = try box.box.run { try Command("nft", ["list", "table", "inet", "vcpe"]).check() }.text
        #expect(!rules.contains("maxseg"))
    }
}
