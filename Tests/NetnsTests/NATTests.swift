import Addresses
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// Translations, by what hosts on both sides see of each other.
@Suite(.serialized) struct NATTests {
    private static let site = BoxInNetwork.site.editing(
        "nat:\n",
        with: """
                - {name: server, from: any, to: lan, destination: [192.168.1.50, "fd00:1::/64"], protocol: udp, ports: [7000], action: accept}
            nat:
              source:
                - {name: partner, from: lan, to: wan, destination: [198.51.100.0/24], translate: none}
                - {name: pool, from: lan, to: wan, source: [192.168.1.64/26], translate: 203.0.113.10-203.0.113.13}
              one-to-one:
                - {name: server, zone: wan, outside: 203.0.113.50, inside: 192.168.1.50}
                - {name: hosts, zone: wan, outside: 203.0.113.64/28, inside: 192.168.1.32/28}
                - {name: site, zone: wan, outside: "2001:db8:100::/64", inside: "fd00:1::/64"}

            """
    ).editing(
        "firewall:\n",
        with: """
              routes:
                - {to: 198.51.100.0/24, via: 203.0.113.1}
            firewall:

            """
    ).editing(
        "  forwards:\n",
        with: """
              forwards:
                - {name: to-server, from: wan, outside: 203.0.113.51, source: [198.51.100.0/24], protocol: udp, ports: 7200, to: 192.168.1.50}
                - {name: trusted, from: wan, source: [198.51.100.0/24], protocol: tcp-and-udp, ports: 7100-7110, to: 192.168.1.10}

            """)

    private let box: BoxInNetwork
    private let network: ProofNetwork

    init() throws {
        box = try BoxInNetwork.ready(site: Self.site)
        network = try #require(box.network)
        func ip(_ place: Proof.Endpoint, _ words: String) throws {
            _ = try network.namespace(place).run {
                try Command("ip", words.split(separator: " ").map(String.init)).check()
            }
        }
        for host in [50, 33, 70, 71] { try ip(.lan, "addr replace 192.168.1.\(host)/24 dev lan") }
        try ip(.lan, "route replace default via 192.168.1.1")
        try ip(.lan, "-6 route replace default via fd00:1::1")
        try ip(.wan, "addr replace 198.51.100.9/32 dev wan")
        // As a provider would: what is the box's is routed to it.
        for words in ["203.0.113.8/29", "203.0.113.48/29", "203.0.113.64/28", "192.168.1.0/24"] {
            try ip(.wan, "route replace \(words) via 203.0.113.2")
        }
        try ip(.wan, "-6 route replace 2001:db8:100::/64 via 2001:db8:1::2")
    }

    private func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }

    /// Sends a packet there and one back.
    ///
    /// - Returns: whom the receiver saw, and whom the sender saw answer; nil where nothing came.
    private func talk(
        _ from: String, at place: Proof.Endpoint, to: String, receiver: String, at other: Proof.Endpoint, port: Int
    ) throws -> (sender: String?, answerer: String?) {
        let (source, target, host) = (try address(from), try address(to), try address(receiver))
        let server = try ProofSocket(network.namespace(other), source.family, isStream: false)
        try server.bind(host, port: port, listen: false)
        let client = try ProofSocket(network.namespace(place), source.family, isStream: false)
        try client.bind(source, port: 0, listen: false)
        for _ in 0..<5 {
            _ = client.send([1], to: target, port: port)
            if server.wait(seconds: 0.5) { break }
        }
        let seen = server.receive()
        guard let peer = seen.peer else { return (nil, nil) }
        _ = server.send([2], to: peer, port: seen.port)
        return (peer.description, client.wait(seconds: 3) ? client.receive().peer?.description : nil)
    }

    @Test func everySourceBecomesWhatItsRuleSays() throws {
        let wan = "203.0.113.1"
        #expect(try network.side(.wan).host4.description == wan)
        func seen(_ from: String, _ port: Int, to: String = wan) throws -> String? {
            let (sender, answerer) = try talk(from, at: .lan, to: to, receiver: to, at: .wan, port: port)
            #expect(answerer == to, "\(from) to \(to) \(port): \(box.log)")
            return sender
        }
        // One source has one address of the pool, whatever it talks to.
        let first = Set(try (0..<6).map { try seen("192.168.1.70", 6000 + $0) })
        #expect(first.count == 1 && first.first.flatMap { $0 }?.hasPrefix("203.0.113.1") == true, "\(first)")
        #expect(["10", "11", "12", "13"].contains { first == ["203.0.113.\($0)"] }, "\(first)")
        // No rule, no mapping: masquerade.
        #expect(try seen("192.168.1.10", 6001) == "203.0.113.2")
        // An exception goes before all.
        #expect(try seen("192.168.1.10", 6002, to: "198.51.100.9") == "192.168.1.10")
        // One for one, and network for network.
        #expect(try seen("192.168.1.50", 6003) == "203.0.113.50")
        #expect(try seen("192.168.1.33", 6004) == "203.0.113.65")
        let inside = try network.side(.lan).host6.description
        #expect(inside.hasPrefix("fd00:1::"))
        let (sender, answerer) = try talk(
            inside, at: .lan, to: network.side(.wan).host6.description, receiver: network.side(.wan).host6.description,
            at: .wan, port: 6005)
        #expect(sender == inside.editing("fd00:1::", with: "2001:db8:100::"))
        let asked = try network.side(.wan).host6.description
        #expect(answerer == asked)
        let counted = try box.ask("counters")
        #expect(counted["nat.source.pool"]?["packets"]?.integer == 6, "\(counted.pretty)")
        #expect(counted["nat.one-to-one.site"]?["packets"]?.integer == 1)
    }

    @Test func hostsBehindMappingsAreReached() throws {
        // From outside, as far as the firewall lets it in.
        let server = try talk(
            "203.0.113.1", at: .wan, to: "203.0.113.50", receiver: "192.168.1.50", at: .lan, port: 7000)
        #expect(server.sender == "203.0.113.1" && server.answerer == "203.0.113.50")
        let refused = try talk(
            "203.0.113.1", at: .wan, to: "203.0.113.50", receiver: "192.168.1.50", at: .lan, port: 7001)
        #expect(refused.sender == nil)
        let inside = try network.side(.lan).host6.description
        let outside = inside.editing("fd00:1::", with: "2001:db8:100::")
        let six = try talk(
            network.side(.wan).host6.description, at: .wan, to: outside, receiver: inside, at: .lan, port: 7000)
        #expect(six.sender == (try network.side(.wan).host6.description) && six.answerer == outside)
        // A neighbour that asks for the address outside is answered by it.
        _ = try network.namespace(.lan).run {
            // Both ends are in one place here: packets must not take the short way.
            try Command("ip", ["route", "add", "203.0.113.50/32", "via", "192.168.1.1"]).check()
        }
        let hairpin = try talk(
            "192.168.1.10", at: .lan, to: "203.0.113.50", receiver: "192.168.1.50", at: .lan, port: 7000)
        #expect(hairpin.sender == "192.168.1.1" && hairpin.answerer == "203.0.113.50")
        // A forward to the same host, for others and by another address, opens nothing of the mapping.
        let side = try talk("203.0.113.1", at: .wan, to: "203.0.113.50", receiver: "192.168.1.50", at: .lan, port: 7200)
        #expect(side.sender == nil)
        let meant = try talk(
            "198.51.100.9", at: .wan, to: "203.0.113.51", receiver: "192.168.1.50", at: .lan, port: 7200)
        #expect(meant.sender == "198.51.100.9" && meant.answerer == "203.0.113.51")
        // A forward for some sources only.
        let trusted = try talk(
            "198.51.100.9", at: .wan, to: "203.0.113.2", receiver: "192.168.1.10", at: .lan, port: 7105)
        #expect(trusted.sender == "198.51.100.9" && trusted.answerer == "203.0.113.2")
        let others = try talk(
            "203.0.113.1", at: .wan, to: "203.0.113.2", receiver: "192.168.1.10", at: .lan, port: 7105)
        #expect(others.sender == nil)
    }

    /// What a document changes of translations holds for flows that go on, too: their next packet
    /// begins a connection.
    @Test func flowsThatGoOnAreTranslatedAsTheDocumentSays() throws {
        let server = try ProofSocket(network.namespace(.wan), .ipv4, isStream: false)
        try server.bind(address("203.0.113.1"), port: 6100, listen: false)
        func client(_ source: String) throws -> ProofSocket {
            let client = try ProofSocket(network.namespace(.lan), .ipv4, isStream: false)
            try client.bind(address(source), port: 0, listen: false)
            return client
        }
        func seen(_ client: ProofSocket) throws -> String? {
            while server.wait(seconds: 0) { _ = server.receive() }
            _ = client.send([1], to: try address("203.0.113.1"), port: 6100)
            return server.wait(seconds: 0.5) ? server.receive().peer?.description : nil
        }
        let (masked, pooled) = (try client("192.168.1.10"), try client("192.168.1.70"))
        #expect(try Wait.until { try seen(masked) == "203.0.113.2" })
        let first = try #require(try seen(pooled))
        // An exception for one of them, and another pool for the other.
        let other = Self.site.editing(
            "destination: [198.51.100.0/24], translate: none", with: "destination: [203.0.113.1], translate: none"
        )
        .editing("203.0.113.10-203.0.113.13", with: "203.0.113.14-203.0.113.15")
        .editing(
            "from: lan, to: wan, destination: [203.0.113.1]",
            with: "from: lan, to: wan, source: [192.168.1.10], destination: [203.0.113.1]")
        #expect(try box.apply(other) == nil)
        #expect(try Wait.until { try seen(masked) == "192.168.1.10" }, "\(box.log)")
        #expect(
            try Wait.until { ["203.0.113.14", "203.0.113.15"].contains(try seen(pooled) ?? "") }, "\(first): \(box.log)"
        )
        // And back.
        #expect(try box.apply(Self.site) == nil)
        #expect(try Wait.until { try seen(masked) == "203.0.113.2" }, "\(box.log)")
        #expect(try Wait.until { try seen(pooled) == first }, "\(box.log)")
    }
}
