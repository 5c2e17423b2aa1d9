import Addresses
@testable import Engine
import PluginKit
import Testing

/// What links depend on, without a kernel.
@Suite struct LinkGraphTests {
    private func port(_ name: String, master: String? = nil, mtu: Int? = nil) throws -> LinkResource {
        let mac = try #require(MACAddress("52:54:00:00:00:01"))
        return LinkResource(name: name, PortLink(path: "", mac: mac), master: master, mtu: mtu)
    }

    private func mtus(_ links: [LinkResource]) throws -> [String: Int] { try LinkGraph(links).mtus { _ in 1450 } }

    /// "guest" sorts before "lan": the order of a plan's lines is not that of links.
    @Test func parentsAndMastersComeFirst() throws {
        let links = [
            LinkResource(name: "guest", VLANLink("trunk", id: 20), master: "zone"), try port("lan", master: "trunk"),
            LinkResource(name: "trunk", BondLink(.activeBackup)), LinkResource(name: "zone", VRFLink(table: 9)),
        ]
        let order = try LinkGraph(links).ordered.map(\.name)
        func place(_ name: String) -> Int { order.firstIndex(of: name) ?? -1 }
        #expect(place("trunk") < place("guest") && place("zone") < place("guest") && place("trunk") < place("lan"))
        #expect(order.count == 4)
    }

    @Test func aCircleIsAnError() throws {
        let links = [
            LinkResource(name: "a", VLANLink("b", id: 1)), LinkResource(name: "b", VLANLink("a", id: 1)),
        ]
        #expect(throws: EngineError.self) { try LinkGraph(links) }
        let veths = [
            LinkResource(name: "a", VethLink(peer: "b")), LinkResource(name: "b", VethLink(peer: "c")),
            LinkResource(name: "c", VethLink(peer: "b")),
        ]
        #expect(throws: EngineError.self) { try LinkGraph(veths) }
    }

    @Test func mtusFollowWhatALinkIsBuiltOn() throws {
        let lan = try port("lan", master: "br")
        // A port has what its driver takes, and a bridge what its ports have.
        #expect(try mtus([lan, LinkResource(name: "br", BridgeLink())]) == ["lan": 1450, "br": 1450])
        #expect(
            try mtus([try port("lan", master: "br", mtu: 9000), LinkResource(name: "br", BridgeLink())])
                == ["lan": 9000, "br": 9000])
        #expect(try mtus([LinkResource(name: "br", BridgeLink())]) == ["br": 1500])
        // A bond gives its MTU to its ports, a parent to its VLAN.
        #expect(
            try mtus([
                try port("p", master: "bond", mtu: nil), LinkResource(name: "bond", BondLink(.lacp), mtu: 9000),
                LinkResource(name: "v", VLANLink("bond", id: 5)),
            ]) == ["p": 9000, "bond": 9000, "v": 9000])
        #expect(try mtus([LinkResource(name: "p", ExternalLink())]) == [:])
        #expect(try mtus([LinkResource(name: "z", VRFLink(table: 1))]) == ["z": 65_575])
        // A VLAN of a bridge that is a port of that bridge, which the kernel refuses.
        #expect(
            throws: EngineError.self,
            performing: {
                try mtus([
                    LinkResource(name: "b", BridgeLink(), master: "v"),
                    LinkResource(name: "v", VLANLink("b", id: 1)),
                ])
            })
        #expect(
            try mtus([
                LinkResource(name: "b", BridgeLink()), LinkResource(name: "v", VLANLink("b", id: 1), master: "b"),
            ])[
                "b"] == 1500)
    }

    @Test func whatNeedsAnAbsentExternalLinkWaits() throws {
        let links = [
            LinkResource(name: "v", VLANLink("tap0", id: 3), master: "z"), LinkResource(name: "tap0", ExternalLink()),
            LinkResource(name: "z", VRFLink(table: 4)), LinkResource(name: "w", VLANLink("v", id: 4)),
        ]
        #expect(try LinkGraph(links).waiting { _ in false } == ["tap0", "v", "w"])
        #expect(try LinkGraph(links).waiting { $0 == "tap0" } == [])
    }
}
