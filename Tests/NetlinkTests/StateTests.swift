import Addresses
import Glibc
import Netlink
import Testing

/// Random states, one after the other: what the kernel holds is what is wanted in its normal form,
/// and after the removal of all the namespace is as before.
@Suite struct StateTests {
    private static let seed: UInt64 = 0x7663_7065
    private static let rounds = 40

    private static func random<Element>(
        _ generator: inout SeededGenerator, atMost most: Int, _ make: (inout SeededGenerator) -> Element
    ) -> [Element] {
        (0..<Int.random(in: 0...most, using: &generator)).map { _ in make(&generator) }
    }

    /// The last of those with one key, in their order: a state that the kernel can hold.
    private static func latest<Element, Key: Hashable>(
        _ elements: [Element], by key: (Element) -> Key
    ) -> [Element] {
        var seen: Set<Key> = []
        return elements.reversed().filter { seen.insert(key($0)).inserted }.reversed()
    }

    private func ranges(_ generator: inout SeededGenerator) -> ClosedRange<UInt16>? {
        guard generator.chance(25) else { return nil }
        let first = UInt16.random(in: 1...1000, using: &generator)
        return first...first + UInt16.random(in: 0...500, using: &generator)
    }

    private func rule(_ generator: inout SeededGenerator) -> PolicyRule {
        let family = generator.pick(IPAddress.Family.allCases)
        func prefix(_ generator: inout SeededGenerator) -> IPPrefix? {
            guard generator.chance(40) else { return nil }
            let texts =
                family == .ipv4
                ? ["0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/8", "192.0.2.1/32"]
                : ["::/0", "2001:db8::/32", "2001:db8::1/32", "fd00::1/128"]
            return IPPrefix(generator.pick(texts))
        }
        let mark: UInt32? = generator.chance(40) ? generator.pick([0, 1, 5, 0x100, 0xFFFF_FFFF]) : nil
        let mask: UInt32? = generator.chance(40) ? generator.pick([0, 0xFF, 0xFF00, 0xFFFF_FFFF]) : nil
        return PolicyRule(
            family: family, priority: generator.pick([100, 100, 200, 300]), table: generator.pick([7, 254, 1000]),
            source: prefix(&generator), destination: prefix(&generator), mark: mark, markMask: mask,
            interface: generator.chance(30) ? generator.pick(["wan", "lo", "none"]) : nil,
            origin: TestNetwork.origin, action: generator.pick([.lookup, .lookup, .lookup, .blackhole, .prohibit]),
            outputInterface: generator.chance(20) ? generator.pick(["wan", "none"]) : nil,
            isL3mdev: generator.chance(10),
            suppressedPrefixLength: generator.chance(20) ? generator.pick([0, 24]) : nil,
            transport: generator.chance(30) ? generator.pick([0, 6, 17]) : nil, sourcePorts: ranges(&generator),
            destinationPorts: ranges(&generator), users: generator.chance(10) ? 0...0 : nil,
            isInverted: generator.chance(10))
    }

    @Test func rules() throws {
        print("policy rules: seed \(Self.seed), \(Self.rounds) states")
        let network = try TestNetwork()
        try network.run { socket in
            var generator = SeededGenerator(seed: Self.seed)
            let before = try socket.policyRules()
            for round in 0..<Self.rounds {
                let isLast = round == Self.rounds - 1
                let wanted = isLast ? [] : Self.latest(Self.random(&generator, atMost: 12, rule)) { $0 }
                let present = try socket.policyRules(origin: TestNetwork.origin)
                for rule in present where !wanted.contains(rule) { try socket.delete(rule) }
                for rule in wanted where !present.contains(rule) { try socket.add(rule) }
                let after = try socket.policyRules(origin: TestNetwork.origin)
                let difference = Set(after).symmetricDifference(wanted)
                #expect(difference.isEmpty && after.count == wanted.count, "round \(round): \(difference)")
            }
            #expect(try socket.policyRules() == before)
        }
    }

    private func route(_ generator: inout SeededGenerator, _ links: [Int]) -> Route? {
        let family = generator.pick(IPAddress.Family.allCases)
        let is4 = family == .ipv4
        let destinations =
            is4
            ? ["0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/8", "10.1.0.0/16", "203.0.113.7/32"]
            : ["::/0", "fd00::/8", "fd00::1/8", "fd00:1::/32", "2001:db8:ffff::1/128"]
        guard let destination = IPPrefix(generator.pick(destinations)) else { return nil }
        func hop(_ generator: inout SeededGenerator, needsGateway: Bool) -> NextHop {
            let number = Int.random(in: links.indices, using: &generator)
            let isOnLink = generator.chance(20)
            var gateways = is4 ? ["192.0.\(number).\(Int.random(in: 2...4, using: &generator))"] : []
            gateways += ["fe80::\(Int.random(in: 1...3, using: &generator))"]
            if isOnLink { gateways = is4 ? ["203.0.113.1"] : ["2001:db8:99::1"] }
            let gateway = needsGateway || generator.chance(70) ? IPAddress(generator.pick(gateways)) : nil
            return NextHop(
                via: gateway, link: links[number], weight: Int.random(in: 0...300, using: &generator),
                onLink: isOnLink)
        }
        var route = Route(
            to: destination, table: generator.pick([254, 254, 0, 1000, 70000]),
            metric: generator.pick([0, 0, 10, 1024]), origin: TestNetwork.origin,
            mtu: generator.chance(20) ? generator.pick([0, 1300, 100_000]) : nil)
        switch Int.random(in: 0..<10, using: &generator) {
        case 0...1: route.kind = generator.pick([.blackhole, .unreachable, .prohibit, .throw])
        case 2...5:
            // In IPv6 each of several paths is another one.
            var hops: [NextHop] = []
            for _ in 0...Int.random(in: 0...3, using: &generator) {
                let new = hop(&generator, needsGateway: !is4)
                if !hops.contains(where: { $0.gateway == new.gateway && $0.link == new.link }) { hops.append(new) }
            }
            route.nextHops = hops
        default:
            let only = hop(&generator, needsGateway: false)
            route.gateway = only.gateway
            route.link = only.link
            route.isOnLink = only.isOnLink
            if is4, generator.chance(20) { route.source = IPAddress("192.0.0.1") }
        }
        return route
    }

    /// What no two routes of a table have in common.
    private struct Key: Hashable {
        var destination: IPPrefix
        var table: Int
        var metric: Int

        init(_ route: Route) {
            destination = route.destination
            table = route.table
            metric = route.metric
        }
    }

    @Test func routes() throws {
        print("routes: seed \(Self.seed), \(Self.rounds) states")
        let network = try TestNetwork()
        try network.runWithLinks { socket, links in
            var generator = SeededGenerator(seed: Self.seed)
            let links = [links.wan, links.lan]
            for (number, link) in links.enumerated() {
                try socket.add(InterfaceAddress(link: link, prefix: try prefix("192.0.\(number).1/24")))
                try socket.add(InterfaceAddress(link: link, prefix: try prefix("fe80::ff/64")))
            }
            // The kernel adds the local routes of IPv6 addresses some time later.
            try TestNetwork.wait("no local routes") {
                try socket.routes(table: 255).filter { $0.destination.description == "fe80::ff/128" }.count == 2
            }
            let before = Set(try socket.routes())
            for round in 0..<Self.rounds {
                let made = Self.random(&generator, atMost: 15) { self.route(&$0, links) }.compactMap { $0?.normalForm }
                let wanted = round == Self.rounds - 1 ? [] : Self.latest(made, by: Key.init)
                let keys = Set(wanted.map(Key.init))
                let present = try socket.routes(origin: TestNetwork.origin)
                for route in present where !keys.contains(Key(route)) { try socket.delete(route) }
                for route in wanted where !present.contains(route) { try socket.add(route) }
                let after = try socket.routes(origin: TestNetwork.origin)
                let difference = Set(after).symmetricDifference(wanted)
                #expect(difference.isEmpty && after.count == wanted.count, "round \(round): \(difference)")
            }
            let left = Set(try socket.routes()).symmetricDifference(before)
            #expect(left.isEmpty, "\(left)")
        }
    }

    private func interfaceAddress(_ generator: inout SeededGenerator, _ links: [Int]) -> InterfaceAddress? {
        let is4 = Bool.random(using: &generator)
        let host = Int.random(in: 1...9, using: &generator)
        let text =
            is4
            ? "192.0.\(Int.random(in: 0...1, using: &generator)).\(host)/\(generator.pick([24, 24, 31, 32]))"
            : "fd00::\(host)/\(generator.pick([64, 64, 128]))"
        guard let prefix = IPPrefix(text) else { return nil }
        var address = InterfaceAddress(
            link: generator.pick(links), prefix: prefix, origin: TestNetwork.origin,
            hasNoPrefixRoute: generator.chance(30), detectsDuplicates: generator.chance(30))
        if generator.chance(20) { address.peer = IPAddress(is4 ? "10.9.9.\(host)" : "fd00:9::\(host)") }
        if generator.chance(10) { address.peer = prefix.address }
        if generator.chance(40) { address.validLifetime = generator.pick([5000, 90000]) }
        if generator.chance(40) { address.preferredLifetime = generator.pick([0, 3000, 80000]) }
        return address
    }

    @Test func addresses() throws {
        print("addresses: seed \(Self.seed), \(Self.rounds) states")
        let network = try TestNetwork()
        try network.runWithLinks { socket, links in
            var generator = SeededGenerator(seed: Self.seed)
            let before = Set(try socket.addresses())
            let routes = Set(try socket.routes())
            for round in 0..<Self.rounds {
                let made = Self.random(&generator, atMost: 10) { interfaceAddress(&$0, [links.wan, links.lan]) }
                // The kernel has an address once on a link.
                let distinct = Self.latest(made.compactMap { $0 }) { "\($0.link) \($0.prefix.address)" }
                let wanted = round == Self.rounds - 1 ? [] : distinct
                try apply(wanted, socket)
                let after = try ours(socket)
                #expect(after.count == wanted.count, "round \(round)")
                for address in wanted {
                    #expect(after.contains { address.agrees(with: $0, within: 60) }, "round \(round): \(address)")
                }
            }
            #expect(try Set(socket.addresses()) == before)
            let left = Set(try socket.routes()).symmetricDifference(routes)
            #expect(left.isEmpty, "\(left)")
        }
    }

    private func ours(_ socket: RouteSocket) throws -> [InterfaceAddress] {
        try socket.addresses().filter { $0.origin == TestNetwork.origin }
    }

    /// With the first IPv4 address of a network the kernel removes the others: a second look adds
    /// them.
    private func apply(_ wanted: [InterfaceAddress], _ socket: RouteSocket) throws {
        for _ in 0..<2 {
            for present in try ours(socket) where !wanted.contains(where: { $0.agrees(with: present, within: 60) }) {
                do {
                    try socket.delete(present)
                } catch {
                    try #require(error.code == EADDRNOTAVAIL, "\(error)")
                }
            }
            let present = try ours(socket)
            for address in wanted where !present.contains(where: { address.agrees(with: $0, within: 60) }) {
                try socket.add(address)
            }
        }
    }
}
