import Addresses
import Glibc
import Netlink
import Testing

/// Routes, and iproute2's view of them.
@Suite struct RouteTests {
    let network: TestNetwork

    init() throws { network = try TestNetwork() }

    private func ours(_ socket: RouteSocket) throws -> [Route] { try socket.routes(origin: TestNetwork.origin) }

    private func configure(_ socket: RouteSocket, _ links: (wan: Int, lan: Int)) throws {
        for (link, texts) in [
            (links.wan, ["192.0.2.2/24", "2001:db8:1::2/64"]), (links.lan, ["198.51.100.2/24", "2001:db8:2::2/64"]),
        ] {
            for text in texts { try socket.add(InterfaceAddress(link: link, prefix: try prefix(text))) }
        }
    }

    private func route(
        _ destination: String, via gateway: String? = nil, _ link: Int? = nil, _ set: (inout Route) -> Void = { _ in }
    ) throws -> Route {
        var route = Route(
            to: try prefix(destination), via: try gateway.map(address), link: link, origin: TestNetwork.origin)
        set(&route)
        return route
    }

    /// Each route, and what ip(8) is told for it.
    private func pairs(_ wan: Int, _ lan: Int) throws -> [(Route, String)] {
        let (near, far) = (try address("192.0.2.1"), try address("198.51.100.1"))
        let (near6, far6) = (try address("2001:db8:1::1"), try address("2001:db8:2::1"))
        let source = try address("192.0.2.2")
        let source6 = try address("2001:db8:1::2")
        return [
            (try route("10.0.0.0/8", wan), "10.0.0.0/8 dev wan"),
            (try route("0.0.0.0/0", via: "192.0.2.1", wan), "default via 192.0.2.1 dev wan"),
            (
                try route("10.0.0.0/8", via: "192.0.2.1", wan) {
                    $0.metric = 7
                    $0.table = 1000
                }, "10.0.0.0/8 via 192.0.2.1 dev wan metric 7 table 1000"
            ),
            (
                try route("10.0.0.0/8", via: "203.0.113.1", wan) { $0.isOnLink = true },
                "10.0.0.0/8 via 203.0.113.1 dev wan onlink"
            ),
            (try route("10.0.0.0/8") { $0.kind = .blackhole }, "blackhole 10.0.0.0/8"),
            (try route("10.0.0.0/8") { $0.kind = .unreachable }, "unreachable 10.0.0.0/8"),
            (try route("10.0.0.0/8") { $0.kind = .prohibit }, "prohibit 10.0.0.0/8"),
            (try route("10.0.0.0/8") { $0.kind = .throw }, "throw 10.0.0.0/8"),
            (
                try route("10.0.0.0/8", via: "192.0.2.1", wan) { $0.source = source },
                "10.0.0.0/8 via 192.0.2.1 dev wan src 192.0.2.2"
            ),
            (
                try route("10.0.0.0/8", via: "192.0.2.1", wan) { $0.mtu = 1400 },
                "10.0.0.0/8 via 192.0.2.1 dev wan mtu 1400"
            ),
            (
                try route("10.0.0.0/8") {
                    $0.nextHops = [NextHop(via: near, link: wan, weight: 3), NextHop(via: far, link: lan)]
                }, "10.0.0.0/8 nexthop via 192.0.2.1 dev wan weight 3 nexthop via 198.51.100.1 dev lan"
            ),
            (
                try route("10.0.0.0/8") {
                    $0.nextHops = [
                        NextHop(link: wan), NextHop(via: try? address("203.0.113.1"), link: lan, onLink: true),
                    ]
                }, "10.0.0.0/8 nexthop dev wan nexthop via 203.0.113.1 dev lan onlink"
            ),
            (try route("10.0.0.0/8", via: "fe80::1", wan), "10.0.0.0/8 via inet6 fe80::1 dev wan"),
            (
                try route("10.0.0.0/8") {
                    $0.nextHops = [
                        NextHop(via: try? address("fe80::1"), link: wan),
                        NextHop(via: try? address("fe80::1"), link: lan, weight: 256),
                    ]
                }, "10.0.0.0/8 nexthop via inet6 fe80::1 dev wan nexthop via inet6 fe80::1 dev lan weight 256"
            ),
            (try route("fd00::/8", wan), "fd00::/8 dev wan"),
            (try route("::/0", via: "fe80::1", wan), "default via fe80::1 dev wan"),
            (try route("::/0", via: "fe80::1", lan) { $0.metric = 5 }, "default via fe80::1 dev lan metric 5"),
            (
                try route("fd00::/8", via: "2001:db8:9::1", wan) { $0.isOnLink = true },
                "fd00::/8 via 2001:db8:9::1 dev wan onlink"
            ),
            (try route("fd00::/8") { $0.kind = .blackhole }, "blackhole fd00::/8"),
            (try route("fd00::/8") { $0.kind = .unreachable }, "unreachable fd00::/8"),
            (
                try route("fd00::/8") {
                    $0.kind = .prohibit
                    $0.table = 70000
                }, "prohibit fd00::/8 table 70000"
            ),
            (
                try route("fd00::/8", via: "2001:db8:1::1", wan) {
                    $0.source = source6
                    $0.mtu = 1280
                }, "fd00::/8 via 2001:db8:1::1 dev wan src 2001:db8:1::2 mtu 1280"
            ),
            (
                try route("fd00::/8") {
                    $0.nextHops = [NextHop(via: near6, link: wan), NextHop(via: far6, link: lan, weight: 4)]
                }, "fd00::/8 nexthop via 2001:db8:1::1 dev wan nexthop via 2001:db8:2::1 dev lan weight 4"
            ),
        ]
    }

    @Test func eachRouteIsTheOneThatIproute2Makes() throws {
        try network.runWithLinks { socket, links in
            try configure(socket, links)
            for (route, words) in try pairs(links.wan, links.lan) {
                let family = route.destination.family == .ipv4 ? "-4" : "-6"
                let list = "\(family) route show table all proto 118"
                try socket.add(route)
                let made = try ip(list)
                #expect(try ours(socket) == [route.normalForm], "\(words)")
                try socket.delete(route)
                #expect(try ip(list).isEmpty, "\(words)")
                try ip("\(family) route add proto 118 \(words)")
                #expect(try ip(list) == made, "\(words)")
                #expect(try ours(socket) == [route.normalForm], "\(words)")
                try socket.delete(try #require(try ours(socket).first))
                #expect(try ours(socket).isEmpty, "\(words)")
            }
        }
    }

    @Test func theNormalFormIsWhatTheKernelKeeps() throws {
        try network.runWithLinks { socket, links in
            try configure(socket, links)
            let near = NextHop(via: try address("192.0.2.1"), link: links.wan, weight: 9)
            let wanted = [
                // Bits beyond the length, and one path.
                try route("10.1.2.3/8") { $0.nextHops = [near] },
                try route("fd00::1/64", via: "fe80::1", links.wan) { $0.table = 0 },
                // An MTU beyond the kernel's largest, and none.
                try route("10.2.0.0/16", links.wan) { $0.mtu = 1_000_000 },
                try route("10.3.0.0/16", links.wan) { $0.mtu = 0 },
                // onlink without a gateway, and a path that a blackhole does not have.
                try route("10.4.0.0/16", links.wan) { $0.isOnLink = true },
                try route("10.5.0.0/16", via: "192.0.2.1", links.wan) { $0.kind = .blackhole },
            ]
            for route in wanted { try socket.add(route) }
            #expect(try Set(ours(socket)) == Set(wanted.map(\.normalForm)))
            for route in wanted { #expect(route.normalForm.normalForm == route.normalForm) }
            for route in wanted { try socket.delete(route) }
            #expect(try ours(socket).isEmpty)
        }
    }

    @Test func aRouteThatExistsIsReplaced() throws {
        try network.runWithLinks { socket, links in
            try configure(socket, links)
            let hops = [
                NextHop(via: try address("2001:db8:1::1"), link: links.wan),
                NextHop(via: try address("2001:db8:2::1"), link: links.lan),
            ]
            let states = [
                try route("fd00::/8", via: "2001:db8:1::1", links.wan), try route("fd00::/8") { $0.nextHops = hops },
                try route("fd00::/8", via: "2001:db8:2::1", links.lan),
            ]
            for state in states {
                try socket.add(state)
                #expect(try ours(socket) == [state.normalForm])
            }
        }
    }

    @Test func aLinkLocalGatewayKeepsItsLink() throws {
        try network.runWithLinks { socket, links in
            // Both links have a network that contains the gateway.
            for link in [links.wan, links.lan] {
                try socket.add(InterfaceAddress(link: link, prefix: try prefix("fe80::2/64")))
            }
            let route = try route("::/0", via: "fe80::1", links.lan)
            try socket.add(route)
            #expect(try ours(socket).map(\.link) == [links.lan])
        }
    }

    @Test func aRouteWithANextHopObjectIsReadAsForeign() throws {
        try network.runWithLinks { socket, links in
            try configure(socket, links)
            try ip("nexthop add id 7 via 192.0.2.1 dev wan")
            try ip("route add 10.0.0.0/8 nhid 7 proto 118")
            let read = try #require(try ours(socket).first)
            #expect(read.nextHopObject == 7 && read.gateway?.description == "192.0.2.1")
            let other = try route("10.0.0.0/8", via: "192.0.2.1", links.wan).normalForm
            #expect(read != other)
            try socket.delete(read)
            #expect(try ours(socket).isEmpty)
        }
    }

    @Test func theDumpIsFilteredByOriginAndTable() throws {
        try network.runWithLinks { socket, links in
            try ip("route add 10.0.0.0/8 dev wan proto 99")
            try socket.add(try route("10.1.0.0/16", links.wan))
            try socket.add(try route("10.2.0.0/16", links.wan) { $0.table = 1000 })
            try socket.add(try route("fd00::/8", links.wan) { $0.table = 1000 })
            #expect(try ours(socket).count == 3)
            #expect(try socket.routes(origin: 99).map(\.destination.description) == ["10.0.0.0/8"])
            #expect(try socket.routes(table: 1000).count == 2)
            #expect(try socket.routes(origin: TestNetwork.origin, table: 254).count == 1)
            let all = try socket.routes()
            #expect(all.contains { $0.kind == .local } && all.filter { $0.origin == TestNetwork.origin }.count == 3)
        }
    }
}
