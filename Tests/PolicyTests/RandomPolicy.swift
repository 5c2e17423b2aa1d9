import Addresses
import Documents
import TestSupport

/// A packet as the policies of these tests see it.
struct TestPacket: Hashable {
    var input: Int
    var output: Int
    var source: IPAddress
    var destination: IPAddress
    /// IANA's number.
    var transport: Int
    var sourcePort: Int
    var port: Int
}

/// A policy by chance, what a site document says of it, and what it means: the reference that the compiled one and the
/// kernel are compared with. It is as plain as can be: every rule is asked in turn.
struct RandomPolicy {
    /// Interfaces and the zones that they are in.
    static let interfaces = ["a1", "a2", "b1", "c1"]
    static let zones = ["a", "a", "b", "c"]

    enum Addresses {
        case range(first: IPAddress, last: IPAddress, text: String)
        case set(String)
    }

    struct Rule {
        var name: String
        /// Nil for any.
        var from: String?
        var to: String?
        var interface: Int?
        var sources: [Addresses] = []
        var destinations: [Addresses] = []
        /// Protocols; none for all.
        var transports: [Int] = []
        var ports: [ClosedRange<Int>] = []
        var action: String
    }

    var rules: [Rule] = []
    var sets: [(name: String, members: [Addresses])] = []
    var policies: [(from: String?, to: String?, action: String)] = []

    // MARK: - What it means

    /// The counter that a packet counts with, and what becomes of it.
    func decide(_ packet: TestPacket) -> (counter: String, action: String) {
        for rule in rules where fits(rule, packet) { return ("firewall.rule.\(rule.name)", rule.action) }
        let (from, to) = (Self.zones[packet.input], Self.zones[packet.output])
        // What names both zones says more than what names one, and the source's more than the destination's.
        for wanted in [(from, to), (from, nil), (nil, to), (nil, nil)] as [(String?, String?)] {
            if let policy = policies.first(where: { $0.from == wanted.0 && $0.to == wanted.1 }) {
                return ("firewall.policy.\(policy.from ?? "any").\(policy.to ?? "any")", policy.action)
            }
        }
        return ("", "drop")
    }

    private func fits(_ rule: Rule, _ packet: TestPacket) -> Bool {
        if let from = rule.from, Self.zones[packet.input] != from { return false }
        if let to = rule.to, Self.zones[packet.output] != to { return false }
        if let interface = rule.interface, packet.input != interface { return false }
        if !rule.sources.isEmpty, !rule.sources.contains(where: { has($0, packet.source) }) { return false }
        if !rule.destinations.isEmpty, !rule.destinations.contains(where: { has($0, packet.destination) }) {
            return false
        }
        if !rule.transports.isEmpty, !rule.transports.contains(packet.transport) { return false }
        if !rule.ports.isEmpty, !rule.ports.contains(where: { $0.contains(packet.port) }) { return false }
        return true
    }

    private func has(_ addresses: Addresses, _ address: IPAddress) -> Bool {
        switch addresses {
        case .range(let first, let last, _):
            return first.family == address.family && !(address < first) && !(last < address)
        case .set(let name):
            return sets.first { $0.name == name }?.members.contains { has($0, address) } ?? false
        }
    }

    // MARK: - What a document says

    var configuration: JSON {
        func texts(_ list: [Addresses]) -> JSON {
            .texts(
                list.map { item in
                    switch item {
                    case .range(_, _, let text): text
                    case .set(let name): "@\(name)"
                    }
                })
        }
        return [
            "anti-spoofing": false,
            "sets": .list(sets.map { ["name": .text($0.name), "members": texts($0.members)] }),
            "rules": .list(
                rules.map { rule in
                    let transport: String? =
                        switch rule.transports {
                        case []: nil
                        case [6, 17]: "tcp-and-udp"
                        case [1, 58]: "icmp"
                        default:
                            ["6": "tcp", "17": "udp", "132": "sctp"]["\(rule.transports[0])"] ?? "\(rule.transports[0])"
                        }
                    return .object([
                        "name": .text(rule.name), "from": .text(rule.from ?? "any"), "to": .text(rule.to ?? "any"),
                        "interface": rule.interface.map { .text(Self.interfaces[$0]) },
                        "source": rule.sources.isEmpty ? nil : texts(rule.sources),
                        "destination": rule.destinations.isEmpty ? nil : texts(rule.destinations),
                        "protocol": transport.map { .text($0) },
                        "ports": rule.ports.isEmpty
                            ? nil
                            : .texts(
                                rule.ports.map {
                                    $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)"
                                }),
                        "action": .text(rule.action),
                    ])
                }),
            "policies": .list(
                policies.map {
                    ["from": .text($0.from ?? "any"), "to": .text($0.to ?? "any"), "action": .text($0.action)]
                }),
        ]
    }

    /// What the plugin network would publish of the interfaces.
    static var published: JSON {
        var (zones, interfaces): ([String: JSON], [String: JSON]) = ([:], [:])
        for (interface, zone) in zip(Self.interfaces, Self.zones) {
            zones[zone] = ["set": .text("network.zone-\(zone)")]
            interfaces[interface] = ["zone": .text(zone)]
        }
        return ["zones": .object(zones), "interfaces": .object(interfaces)]
    }

    // MARK: - Chance

    /// Rules that somebody wrote.
    init(_ rules: [Rule]) {
        self.rules = rules
        policies = [(nil, nil, "drop")]
    }

    /// - Parameter rules: how many.
    init(rules count: Int, _ random: inout Random) {
        // Some policies have many rules about the same things, some few about many.
        let kind = random.next(4)
        for i in 0..<random.next(4) {
            let members = (0..<1 + random.next(12)).map { _ in Self.addresses(&random, kind) }
            sets.append(("s\(i)", members))
        }
        for i in 0..<count { rules.append(rule("r\(i)", kind, &random)) }
        for from in ["a", "b", "c", nil] {
            for to in ["a", "b", "c", nil] where random.next(4) == 0 && (from != nil || to != nil) {
                policies.append((from, to, ["accept", "drop", "reject"][random.next(3)]))
            }
        }
        policies.append((nil, nil, "drop"))
    }

    private func rule(_ name: String, _ kind: Int, _ random: inout Random) -> Rule {
        var rule = Rule(name: name, action: ["accept", "accept", "drop", "reject"][random.next(4)])
        // In policies of the last kind zones say nothing.
        if kind != 3 || random.next(10) == 0 {
            rule.from = ["a", "b", "c", nil][random.next(4)]
            rule.to = ["a", "b", "c", nil][random.next(4)]
        }
        if random.next(20) == 0 {
            let number = random.next(Self.interfaces.count)
            rule.interface = number
            if rule.from != nil { rule.from = Self.zones[number] }
        }
        let exact = kind == 0 ? 85 : 20
        // The families of both sides must not exclude each other.
        let family = IPAddress.Family.allCases[random.next(100) < 70 ? 0 : 1]
        func list(_ share: Int, _ random: inout Random) -> [Addresses] {
            guard random.next(100) < share else { return [] }
            if !sets.isEmpty, random.next(8) == 0 { return [.set(sets[random.next(sets.count)].name)] }
            let count = random.next(3) == 0 ? 1 + random.next(4) : 1
            return (0..<count).map { _ in
                random.next(100) < exact ? Self.host(family, &random) : Self.addresses(&random, kind, family)
            }
        }
        rule.sources = list(kind == 2 ? 30 : 75, &random)
        rule.destinations = list(kind == 2 ? 30 : 75, &random)
        switch random.next(10) {
        case 0...4: rule.transports = [6]
        case 5...6: rule.transports = [17]
        case 7: rule.transports = [6, 17]
        case 8: rule.transports = [[1, 58], [47], [50], [132]][random.next(4)]
        default: break
        }
        if !rule.transports.isEmpty, rule.transports.allSatisfy({ [6, 17, 132].contains($0) }), random.next(8) != 0 {
            for _ in 0..<1 + (random.next(4) == 0 ? random.next(3) : 0) {
                let first = random.next(10) == 0 ? 65535 : 1 + random.next(kind == 1 ? 60 : 3000)
                let length = random.next(100) < exact + 10 ? 0 : random.next(200)
                rule.ports.append(first...min(65535, first + length))
            }
        }
        return rule
    }

    /// Few networks, so that rules meet: 10.N.0.x and fd00:N::x lie behind the interface N.
    static func host(_ family: IPAddress.Family, _ random: inout Random) -> Addresses {
        let address = Self.address(family, &random)
        return .range(first: address, last: address, text: address.description)
    }

    static func address(_ family: IPAddress.Family, _ random: inout Random) -> IPAddress {
        // Half of them are among few, which rules share.
        let low = UInt128(random.next(random.next(2) == 0 ? 12 : 4096))
        let network = UInt128(random.next(interfaces.count))
        return family == .ipv4
            ? IPAddress(.ipv4, value: 10 << 24 | network << 16 | low)
            : IPAddress(.ipv6, value: 0xFD00 << 112 | network << 96 | low)
    }

    private static func addresses(
        _ random: inout Random, _ kind: Int, _ wanted: IPAddress.Family? = nil
    ) -> Addresses {
        let family = wanted ?? IPAddress.Family.allCases[random.next(2)]
        let address = address(family, &random)
        if random.next(3) == 0 {
            let last = IPAddress(family, value: address.value + UInt128(random.next(300)))
            return .range(first: address, last: last, text: "\(address)-\(last)")
        }
        let length = 8 * family.length - random.next(random.next(6) == 0 ? 8 * family.length : 14)
        guard let prefix = IPPrefix(address, length: length)?.network else { return host(family, &random) }
        return .range(first: prefix.address, last: prefix.last, text: prefix.description)
    }

    /// A packet that often lies at the edge of some rule.
    func packet(_ random: inout Random) -> TestPacket {
        let near = rules.isEmpty || random.next(5) == 0 ? nil : rules[random.next(rules.count)]
        var family = IPAddress.Family.allCases[random.next(100) < 70 ? 0 : 1]
        func edge(_ list: [Addresses]) -> IPAddress? {
            guard !list.isEmpty, random.next(6) != 0 else { return nil }
            var item = list[random.next(list.count)]
            if case .set(let name) = item, let set = sets.first(where: { $0.name == name }) {
                item = set.members[random.next(set.members.count)]
            }
            guard case .range(let first, let last, _) = item else { return nil }
            let value = random.next(2) == 0 ? first.value : last.value
            let moved = [value, value, value, value &+ 1, value &- 1][random.next(5)]
            return IPAddress(first.family, value: moved)
        }
        var source = near.flatMap { edge($0.sources) }
        var destination = near.flatMap { edge($0.destinations) }
        family = (destination ?? source)?.family ?? family
        if source?.family != family { source = nil }
        // Where it goes to says by which interface; where it seems to come from doesn't.
        func isRouted(_ address: IPAddress) -> Bool {
            let network = family == .ipv4 ? address.value >> 16 & 0xFF : address.value >> 96 & 0xFFFF
            let start = family == .ipv4 ? address.value >> 24 == 10 : address.value >> 112 == 0xFD00
            return start && network < UInt128(Self.interfaces.count)
        }
        if destination.map(isRouted) != true { destination = nil }
        // Addresses that no host may have are dropped before any rule is asked.
        if source.map(isRouted) != true { source = nil }
        let to = destination ?? Self.address(family, &random)
        let from = source ?? Self.address(family, &random)
        let output = Int(family == .ipv4 ? to.value >> 16 & 0xFF : to.value >> 96 & 0xFFFF)
        var transport = [6, 6, 6, 17, 17, family == .ipv4 ? 1 : 17, 47, 50, 132][random.next(9)]
        if let known = near?.transports, !known.isEmpty, random.next(6) != 0 {
            transport = known[random.next(known.count)]
        }
        if transport == 58 { transport = 17 }
        if transport == 1, family == .ipv6 { transport = 6 }
        var port = 1 + random.next(3300)
        if let ports = near?.ports, !ports.isEmpty, random.next(6) != 0 {
            let range = ports[random.next(ports.count)]
            port = [range.lowerBound, range.upperBound, range.lowerBound - 1, range.upperBound + 1][random.next(4)]
            port = min(65535, max(1, port))
        }
        var input = random.next(Self.interfaces.count)
        if let interface = near?.interface, random.next(3) != 0 { input = interface }
        if let zone = near?.from, random.next(4) != 0, let i = Self.zones.firstIndex(of: zone) { input = i }
        return TestPacket(
            input: input, output: output, source: from, destination: to, transport: transport,
            sourcePort: 1024 + random.next(60_000), port: port)
    }
}
