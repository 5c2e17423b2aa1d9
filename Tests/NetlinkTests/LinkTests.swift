import Addresses
import CMnl
import Documents
@testable import Engine
import Glibc
import Netlink
import PluginKit
import Processes
import Testing

/// Links of each kind, and iproute2's view of them.
@Suite struct LinkTests {
    let network: TestNetwork

    init() throws { network = try TestNetwork() }

    /// A type of link, and how ip(8) makes it.
    private struct Sample {
        var link: LinkResource
        /// A part of the kind that a kernel may be built without.
        var feature: String?
        /// Behind `ip link add link wan NAME`, or without the link below.
        var words: String
        /// What of `linkinfo.info_data` must be there.
        var shown: [String: JSON]

        init(_ type: some LinkType, feature: String? = nil, words: String, shown: [String: JSON] = [:]) {
            link = LinkResource(name: "x", type)
            (self.feature, self.words, self.shown) = (feature, words, shown)
        }

        var kind: String { link.type.kernelKind ?? "" }
        var name: String { kind + (feature.map { " \($0)" } ?? "") }
        var hasParent: Bool { !link.type.value.parents.isEmpty }
        /// What the link is made with; the rest is changed in place.
        var data: [LinkAttribute] { link.type.value.options.filter(\.isFixed).map { LinkAttribute($0) } }
    }

    private static let samples = [
        Sample(DummyLink(), words: "type dummy"),
        Sample(IFBLink(), words: "type ifb"),
        Sample(BridgeLink(), words: "type bridge"),
        Sample(
            BridgeLink(filtersVLANs: true), feature: "vlan_filtering", words: "type bridge vlan_filtering 1",
            shown: ["vlan_filtering": 1]),
        Sample(
            VLANLink("wan", id: 7, egress: [0: 1, 3: 4]), words: "type vlan id 7 egress-qos-map 0:1 3:4",
            shown: ["protocol": "802.1Q", "id": 7]),
        Sample(
            VLANLink("wan", id: 8, tag: .provider), words: "type vlan protocol 802.1ad id 8",
            shown: ["protocol": "802.1ad", "id": 8]),
        Sample(
            BondLink(.lacp, hash: .layer34, isFastLACP: true),
            words: "type bond mode 802.3ad miimon 100 xmit_hash_policy layer3+4 lacp_rate fast",
            shown: ["mode": "802.3ad", "miimon": 100, "xmit_hash_policy": "layer3+4", "ad_lacp_rate": "fast"]),
        Sample(VRFLink(table: 1000), words: "type vrf table 1000", shown: ["table": 1000]),
    ]

    /// The kinds that this host's kernel lacks, by trial; no other reason counts.
    private func lackingKinds() throws -> Set<String> {
        var lacking: Set<String> = []
        for sample in Self.samples {
            let words = "link add \(sample.hasParent ? "link wan " : "")trial \(sample.words)"
            let result = try Command("ip", words.split(separator: " ").map(String.init)).run()
            if result.status == 0 {
                try ip("link delete trial")
            } else {
                let reason = sample.feature == nil ? "Unknown device type" : "not supported"
                try #require(result.errorText.contains(reason), "\(words): \(result.errorText)")
                lacking.insert(sample.name)
            }
        }
        return lacking
    }

    @Test func eachKindIsTheOneThatIproute2Makes() throws {
        try network.runWithLinks { socket, links in
            let lacking = try lackingKinds()
            print("link kinds that this kernel lacks, untested: \(lacking.sorted())")
            for sample in Self.samples {
                try socket.createLinkOrNone("x", sample.kind, sample.hasParent ? links.wan : nil, sample.data)
                if let made = try socket.link(named: "x") {
                    let rest = LinkDriver.differences(made, sample.link).map { LinkAttribute($0) }
                    let change = { () throws(NetlinkError) in
                        if !rest.isEmpty { try socket.setLink(made.index, kind: sample.kind, data: rest) }
                    }
                    if lacking.contains(sample.name) {
                        #expect { try change() } throws: { ($0 as? NetlinkError)?.code == EOPNOTSUPP }
                        try socket.deleteLink(made.index)
                        continue
                    }
                    try change()
                } else {
                    #expect(lacking.contains(sample.name), "\(sample.name)")
                    continue
                }
                let information = try #require(try ipObjects("-d link show dev x").first?["linkinfo"])
                let made = try #require(try socket.link(named: "x"))
                #expect(made.kind == sample.kind && information["info_kind"]?.text == sample.kind)
                for (key, value) in sample.shown { #expect(information["info_data"]?[key] == value, "\(sample.kind)") }
                #expect(LinkDriver.differences(made, sample.link).isEmpty, "\(sample.kind): \(made.data)")
                #expect(made.parent == (sample.hasParent ? links.wan : nil))
                try socket.deleteLink(made.index)
                try ip("link add \(sample.hasParent ? "link wan " : "")x \(sample.words)")
                let theirs = try #require(try socket.link(named: "x"))
                #expect(LinkDriver.differences(theirs, sample.link).isEmpty, "\(sample.kind): \(theirs.data)")
                try socket.deleteLink(theirs.index)
            }
        }
    }

    @Test func allIsSetInOneRequest() throws {
        try network.run { socket in
            try socket.createLink("lan", kind: "bridge")
            let bridge = try network.index("lan", socket)
            let mac = try #require(MACAddress("02:00:00:00:00:0a"))
            try socket.createLink(
                "port", kind: "ifb", mtu: 1400, address: mac, master: bridge, up: true)
            let port = try #require(try socket.link(named: "port"))
            #expect(port.mtu == 1400 && port.address == mac && port.master == bridge && port.isUp)
            #expect(try ipObjects("link show dev port")[0]["master"]?.text == "lan")
        }
    }

    @Test func aVethsPeerIsMadeWithIt() throws {
        let other = try NetworkNamespace()
        try network.run { socket in
            let mac = try #require(MACAddress("02:00:00:00:00:0b"))
            let data = LinkAttribute.veth(peer: "other", address: mac, mtu: 1300)
            try socket.createLink("one", kind: "veth", data: data, up: true)
            let one = try #require(try socket.link(named: "one"))
            let two = try #require(try socket.link(named: "other"))
            #expect(one.parent == two.index && two.parent == one.index && one.parentNamespace == nil)
            #expect(two.address == mac && two.mtu == 1300 && one.isUp && !two.isUp)
            let file = open(other.path, O_RDONLY | O_CLOEXEC)
            try #require(file >= 0)
            defer { close(file) }
            try socket.createLink(
                "far", kind: "veth", data: LinkAttribute.veth(peer: "inside", namespace: .descriptor(file)))
            #expect(try socket.link(named: "inside") == nil)
            #expect(try #require(try socket.link(named: "far")).parentNamespace != nil)
            try socket.setLink(one.index, namespace: .descriptor(file))
            #expect(try socket.link(named: "one") == nil)
        }
        try other.run {
            let names = try RouteSocket().links().map(\.name)
            #expect(Set(names).isSuperset(of: ["inside", "one"]))
        }
    }

    @Test func kindDataChangesInPlace() throws {
        try network.run { socket in
            try socket.createLink("lan", kind: "bridge")
            let made = try #require(try socket.link(named: "lan"))
            // IFLA_BR_FORWARD_DELAY and IFLA_BR_STP_STATE.
            let wanted = [LinkAttribute(1, .u32(400)), LinkAttribute(5, .u32(1))]
            #expect(!wanted.missing(from: made.data).isEmpty)
            try socket.setLink(made.index, kind: "bridge", data: wanted.missing(from: made.data))
            let changed = try #require(try socket.link(named: "lan"))
            #expect(changed.index == made.index && wanted.missing(from: changed.data).isEmpty)
            let information = try ipObjects("-d link show dev lan")[0]["linkinfo"]?["info_data"]
            #expect(information?["stp_state"]?.integer == 1 && information?["forward_delay"]?.integer == 400)
            #expect(throws: NetlinkError.self) { try socket.setLink(made.index, kind: "veth", data: wanted) }
        }
    }

    @Test func stateAndLimitsAreRead() throws {
        try network.run { socket in
            try socket.createLink("one", kind: "veth", data: LinkAttribute.veth(peer: "two"))
            let (one, two) = (try network.index("one", socket), try network.index("two", socket))
            var link = try #require(try socket.link(named: "one"))
            #expect(!link.isUp && !link.hasCarrier && link.operationalState == .down)
            #expect(link.minimumMTU == 68 && link.maximumMTU == 65535 && link.defaultMTU == 1500)
            #expect(try #require(try socket.link(named: "lo")).defaultMTU == 65536)
            try socket.setLink(one, isUp: true)
            link = try #require(try socket.link(named: "one"))
            #expect(link.isUp && !link.hasCarrier)
            try socket.setLink(two, isUp: true)
            link = try #require(try socket.link(named: "one"))
            #expect(link.hasCarrier && link.operationalState == .up)
            let seen = try ipObjects("-d link show dev one")[0]
            #expect(seen["operstate"]?.text == "UP" && seen["max_mtu"]?.integer == link.maximumMTU)
            #expect(throws: NetlinkError.self) { try socket.setLink(one, mtu: 67) }
            #expect(try socket.link(named: "nothing") == nil)
        }
    }
}
