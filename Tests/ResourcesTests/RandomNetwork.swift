import Addresses
import PluginKit
import TestSupport

/// Random wanted states of links, addresses, routes, rules and sysctls, over the ports of a namespace.
struct RandomNetwork {
    /// The permanent addresses of the ports.
    let ports: [MACAddress]
    var random: Random

    private mutating func chance(_ percent: Int) -> Bool { random.next(100) < percent }

    private mutating func one<Value>(_ values: [Value]) -> Value { values[random.next(values.count)] }

    private func prefix(_ text: String) -> IPPrefix {
        guard let prefix = IPPrefix(text) else { fatalError("\(text) is not a network") }
        return prefix
    }

    private func address(_ text: String) -> IPAddress { prefix(text + (text.contains(":") ? "/128" : "/32")).address }

    /// Bytes: minimum of IPv6 (RFC 8200 §5) up to what veth takes.
    private mutating func mtu() -> Int? { chance(40) ? 1280 + random.next(3000) : nil }

    mutating func next() -> [Resource] {
        var resources: [Resource] = []
        var names: [String] = []
        let bridges = (0..<random.next(3)).map { "br\($0)" }
        for bridge in bridges {
            resources.append(Resource(LinkResource(name: bridge, BridgeLink(), mtu: mtu())))
            names.append(bridge)
        }
        if chance(50) {
            let (left, right) = chance(50) ? ("veth-a", "veth-b") : ("veth-a", "veth-c")
            for (name, peer) in [(left, right), (right, left)] {
                resources.append(Resource(LinkResource(name: name, VethLink(peer: peer), mtu: mtu())))
                names.append(name)
            }
        }
        if chance(30) {
            resources.append(Resource(LinkResource(name: "ppp0", ExternalLink())))
            resources.append(Resource(AddressResource(link: "ppp0", prefix("198.51.100.200/32"))))
            resources.append(Resource(RouteResource(to: prefix("198.51.100.128/25"), link: "ppp0", metric: 7)))
            resources.append(Resource(SysctlResource(key: "net/ipv4/conf/ppp0/rp_filter", value: "0")))
        }
        for (i, mac) in ports.enumerated() where chance(80) {
            // The role of a port changes from state to state.
            let name = one(["wan\(i)", "lan\(i)"])
            let master = !bridges.isEmpty && chance(50) ? one(bridges) : nil
            resources.append(
                Resource(LinkResource(name: name, PortLink(path: "", mac: mac), master: master, mtu: mtu())))
            if master == nil { names.append(name) }
        }
        var gateways: [(link: String, network: Int)] = []
        for (i, name) in names.enumerated() where chance(80) {
            let network = i * 3 + random.next(3)
            let four = prefix("10.\(network).0.\(1 + random.next(3))/24")
            resources.append(Resource(AddressResource(link: name, four)))
            if chance(50) {
                // 2100: far beyond the test.
                resources.append(
                    Resource(
                        AddressResource(
                            link: name, prefix("2001:db8:\(network)::1/64"), hasNoPrefixRoute: chance(30),
                            preferredUntil: chance(30) ? 4_102_444_800 : nil,
                            validUntil: chance(50) ? 4_102_444_900 : nil)))
            }
            gateways.append((name, network))
        }
        var destinations: Set<String> = []
        for (link, network) in gateways where chance(70) {
            for _ in 0...random.next(3) {
                let to = one(["0.0.0.0/0", "192.0.2.0/24", "198.51.100.0/25"])
                let (metric, table) = (one([0, 20, 300]), one([254, 10, 1000]) as AllocatedNumber)
                guard destinations.insert("\(to) \(metric) \(table)").inserted else { continue }
                resources.append(
                    Resource(
                        RouteResource(
                            to: prefix(to), via: address("10.\(network).0.254"), link: chance(50) ? link : nil,
                            metric: metric, table: table)))
            }
            let to = one(["::/0", "2001:db8:ffff::/48"])
            if destinations.insert("\(to) 0").inserted {
                resources.append(
                    Resource(
                        RouteResource(
                            to: prefix(to), via: address("fe80::\(network + 1)"), link: link, metric: one([0, 50]))))
            }
        }
        if let first = gateways.first, let last = gateways.last, first.link != last.link, chance(60) {
            let paths = [first, last].map { link, network in
                RouteResource.Path(via: address("10.\(network).0.253"), link: link, weight: 1 + random.next(3))
            }
            resources.append(Resource(RouteResource(to: prefix("203.0.113.0/24"), paths: paths, table: 20)))
        }
        for action in RouteResource.Action.allCases where action != .forward && chance(30) {
            let to = one(["100.64.0.0/10", "2001:db8:dead::/48"])
            if destinations.insert("\(to) 9").inserted {
                resources.append(Resource(RouteResource(to: prefix(to), metric: 9, action: action)))
            }
        }
        if let (link, network) = gateways.first, chance(50) {
            resources.append(
                Resource(
                    RouteResource(
                        to: prefix("192.0.2.128/25"),
                        paths: [.init(via: address("172.16.\(network).1"), link: link, isOnLink: true)],
                        mtu: chance(50) ? 1400 : nil)))
        }
        for priority in (1000..<1000 + random.next(4)).map({ AllocatedNumber($0) }) {
            if chance(30) {
                resources.append(
                    Resource(
                        RuleResource(
                            one([.ipv4, .ipv6]), priority: priority, action: one([.blackhole, .prohibit]), mark: 5)))
                continue
            }
            let isIPv4 = chance(60)
            let networks = isIPv4 ? ["0.0.0.0/0", "10.1.0.0/16"] : ["::/0", "2001:db8::/32"]
            resources.append(
                Resource(
                    RuleResource(
                        isIPv4 ? .ipv4 : .ipv6, priority: priority, table: one([10, 1000]),
                        source: chance(60) ? prefix(one(networks)) : nil,
                        destination: chance(30) ? prefix(one(networks)) : nil,
                        interface: chance(40) && !names.isEmpty ? one(names) : nil,
                        mark: chance(40) ? one([0, 7, 0x100]) : nil, mask: chance(40) ? one([0xFF, 0xFFFF]) : nil)))
        }
        if let name = names.first, chance(50) {
            resources.append(Resource(SysctlResource(key: "net/ipv4/conf/\(name)/arp_ignore", value: one(["0", "1"]))))
        }
        return resources
    }
}
