import Addresses
import Documents
import Glibc
import Netlink
import Processes
import Testing

/// Against iproute2's view of the same network.
@Suite struct NetlinkTests {
    let network: NetworkNamespace

    init() throws { network = try NetworkNamespace() }

    private func ip(_ arguments: String) throws -> [JSON] {
        let words = arguments.split(separator: " ").map(String.init)
        let text = try Command("ip", ["-j"] + words).check().text
        return text.isEmpty ? [] : try JSON.parse(text).list ?? []
    }

    private func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }

    @Test func linksAreMadeChangedAndTakenAway() throws {
        try network.run {
            let socket = try RouteSocket()
            try socket.createLink("lan", kind: "bridge")
            try Command("ip", ["link", "add", "port", "type", "veth", "peer", "name", "other"]).check()
            func link(_ name: String) throws -> Link { try #require(try socket.links().first { $0.name == name }) }
            let (bridge, port) = (try link("lan").index, try link("port").index)
            try socket.setLink(port, master: bridge)
            try socket.setLink(port, mtu: 1400)
            try socket.setLink(port, address: try #require(MACAddress("02:00:00:00:00:0a")))
            try socket.renameLink(port, to: "lan-1")
            try socket.addAlternativeName("vcpe-lan", to: bridge)
            try socket.setLink(bridge, isUp: true)
            let seen = try ip("link show dev lan-1")[0]
            #expect(seen["master"]?.text == "lan" && seen["mtu"]?.integer == 1400)
            #expect(seen["address"]?.text == "02:00:00:00:00:0a")
            let ours = try link("lan")
            #expect(ours.kind == "bridge" && ours.isUp && ours.alternativeNames == ["vcpe-lan"])
            #expect(try link("lan-1").master == bridge && link("lan-1").address?.description == "02:00:00:00:00:0a")
            // Every link that iproute2 sees, and nothing else.
            let theirs = try ip("link show").compactMap { $0["ifname"]?.text }
            #expect(try Set(socket.links().map(\.name)) == Set(theirs))
            try socket.deleteLink(bridge)
            #expect(try !socket.links().contains { $0.name == "lan" })
            #expect { try socket.createLink("lan-1", kind: "bridge") } throws: {
                ($0 as? NetlinkError)?.code == EEXIST && "\($0)".contains("the bridge lan-1: File exists")
            }
        }
    }

    @Test func addressesCarryWhoseTheyAre() throws {
        try network.run {
            let socket = try RouteSocket()
            try socket.createLink("lan", kind: "bridge")
            let link = try #require(try socket.links().first { $0.name == "lan" }).index
            try socket.setLink(link, isUp: true)
            for text in ["192.168.1.1/24", "10.0.0.1/32", "fd00::1/64"] {
                try socket.add(InterfaceAddress(link: link, prefix: try prefix(text), origin: 118))
            }
            let seen = try ip("addr show dev lan")[0]["addr_info"]?.list ?? []
            let listed = seen.compactMap { $0["local"]?.text }
            #expect(Set(listed).isSuperset(of: ["192.168.1.1", "10.0.0.1", "fd00::1"]))
            #expect(seen.first { $0["local"]?.text == "192.168.1.1" }?["broadcast"]?.text == "192.168.1.255")
            let ours = try socket.addresses().filter { $0.link == link && $0.origin == 118 }
            #expect(Set(ours.map(\.prefix.description)) == ["192.168.1.1/24", "10.0.0.1/32", "fd00::1/64"])
            // Once more is no error: an engine that starts again does it.
            try socket.add(ours[0])
            for address in ours { try socket.delete(address) }
            #expect(try !socket.addresses().contains { $0.origin == 118 })
        }
    }

    @Test func routesAndPolicyRules() throws {
        try network.run {
            let socket = try RouteSocket()
            try socket.createLink("wan", kind: "bridge")
            let link = try #require(try socket.links().first { $0.name == "wan" }).index
            try socket.setLink(link, isUp: true)
            try socket.add(InterfaceAddress(link: link, prefix: try prefix("203.0.113.2/24")))
            try socket.add(InterfaceAddress(link: link, prefix: try prefix("2001:db8::2/64")))
            let gateway = try #require(IPAddress("203.0.113.1"))
            let routes = [
                Route(to: try prefix("0.0.0.0/0"), via: gateway, link: link, metric: 100, origin: 118),
                Route(to: try prefix("10.0.0.0/8"), link: link, table: 1000, origin: 118),
                Route(to: try prefix("192.168.0.0/16"), kind: .blackhole, origin: 118),
                Route(to: try prefix("::/0"), via: IPAddress("2001:db8::1"), link: link, metric: 7, origin: 118),
            ]
            for route in routes { try socket.add(route) }
            #expect(try Set(socket.routes().filter { $0.origin == 118 }) == Set(routes))
            let seen = try ip("route show table all proto 118")
            #expect(seen.contains { $0["dst"]?.text == "default" && $0["gateway"]?.text == "203.0.113.1" })
            #expect(seen.contains { $0["dst"]?.text == "10.0.0.0/8" && $0["table"]?.text == "1000" })
            for route in routes { try socket.delete(route) }
            #expect(try ip("route show table all proto 118").isEmpty)
            let rule = PolicyRule(
                family: .ipv4, priority: 5000, table: 1000, source: try prefix("192.168.1.0/24"), mark: 0x100,
                markMask: 0xFF00, interface: "lan", origin: 118)
            try socket.add(rule)
            #expect(try socket.policyRules().contains(rule))
            let listed = try ip("rule show priority 5000")[0]
            #expect(listed["src"]?.text == "192.168.1.0" && listed["fwmark"]?.text == "0x100")
            try socket.delete(rule)
            #expect(try !socket.policyRules().contains(rule))
        }
    }

    @Test func manyRoutesAreReadWholeWhileOthersChangeThem() throws {
        try network.run {
            let socket = try RouteSocket()
            try socket.createLink("wan", kind: "bridge")
            let link = try #require(try socket.links().first { $0.name == "wan" }).index
            try socket.setLink(link, isUp: true)
            for i in 0..<3000 {
                try socket.add(Route(to: try prefix("10.\(i / 250).\(i % 250).0/24"), link: link, origin: 118))
            }
            let other = try Command(
                "sh",
                [
                    "-c",
                    "for i in $(seq 200); do ip route add 172.16.$i.0/24 dev wan; ip route del 172.16.$i.0/24 dev wan; done",
                ]
            ).start(output: .init("/dev/null", O_WRONLY))
            var reads = 0
            while other.poll() == nil {
                #expect(try socket.routes().filter { $0.origin == 118 }.count == 3000)
                reads += 1
            }
            #expect(reads > 3)
        }
    }

    @Test func changesAreHeardWhoeverMakesThem() throws {
        try network.run {
            let monitor = try Monitor()
            #expect(monitor.changes() == [])
            try Command("ip", ["link", "add", "x", "type", "bridge"]).check()
            #expect(monitor.changes().contains(.link))
            try Command("ip", ["link", "set", "x", "up"]).check()
            try Command("ip", ["addr", "add", "10.1.1.1/24", "dev", "x"]).check()
            #expect(monitor.changes().isSuperset(of: [.address, .route]))
            try Command("ip", ["rule", "add", "priority", "7", "table", "77"]).check()
            #expect(monitor.changes() == [.rule])
        }
    }

    @Test func prefixesAndAddresses() throws {
        #expect(IPPrefix("192.168.1.1/24")?.network.description == "192.168.1.0/24")
        #expect(IPPrefix("192.168.1.1/24")?.last.description == "192.168.1.255")
        #expect(IPPrefix("10.0.0.0/8")?.overlaps(try prefix("10.9.0.0/16")) == true)
        #expect(IPPrefix("10.0.0.0/8")?.overlaps(try prefix("11.0.0.0/8")) == false)
        #expect(IPPrefix("fd00::1/64")?.contains(try #require(IPAddress("fd00::ffff"))) == true)
        for wrong in ["10.0.0.0/33", "10.0.0/8", "10.0.0.0/+8", "", "a", "fd00::/129", "10.0.0.1/8/9"] {
            #expect(IPPrefix(wrong) == nil, "\(wrong)")
        }
    }

    @Test func theShortestAndTheLongestPrefixes() throws {
        let all = ["0.0.0.0/0": "255.255.255.255", "::/0": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
        for (text, last) in all {
            let network = try prefix(text)
            #expect(network.isNetwork && network.last.description == last && network.contains(network.last))
        }
        for text in ["203.0.113.7/32", "2001:db8::7/128"] {
            let host = try prefix(text)
            #expect(host.isNetwork && host.network == host && host.last == host.address)
        }
        #expect(try prefix("2001:db8:1:2::7/47").network.description == "2001:db8::/47")
        #expect(try !prefix("0.0.0.0/0").contains(address("::1")) && !prefix("::/0").contains(address("0.0.0.1")))
    }

    @Test func kindsAndOrderOfAddresses() throws {
        #expect(try address("224.0.0.1").isMulticast && address("ff02::1").isMulticast)
        #expect(try !address("223.255.255.255").isMulticast && !address("240.0.0.0").isMulticast)
        #expect(try address("127.255.0.1").isLoopback && address("::1").isLoopback && !address("0.0.0.1").isLoopback)
        #expect(try address("169.254.1.1").isLinkLocal && !address("169.255.0.1").isLinkLocal)
        #expect(try address("fe80::1").isLinkLocal && address("febf::1").isLinkLocal && !address("fec0::1").isLinkLocal)
        #expect(try address("0.0.0.0").isUnspecified && address("::").isUnspecified && !address("::1").isUnspecified)
        let sorted = ["0.0.0.2", "10.0.0.1", "255.255.255.255", "::", "::1", "fd00::1"]
        #expect(try sorted.reversed().map { try address($0) }.sorted().map(\.description) == sorted)
        // The same bits of two families are two addresses.
        #expect(try address("0.0.0.1") != address("::1") && address("::1").bytes.count == 16)
        #expect(try IPAddress(.ipv4, value: 1 << 40 | 7) == address("0.0.0.7"))
    }
}
