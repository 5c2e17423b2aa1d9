import Ruleset
import TestSupport

/// Rulesets by chance, within what the model has; the same seed gives the same ones.
struct RandomRuleset {
    private var random: Random
    /// nft before 1.1 knows no rules in JSON that fill maps, nor maps to several values.
    private let fillsMaps: Bool

    init(seed: UInt64, fillsMaps: Bool = false) { (random, self.fillsMaps) = (Random(seed: seed), fillsMaps) }

    mutating func number(_ range: ClosedRange<Int>) -> Int { range.lowerBound + random.next(range.count) }

    mutating func pick<T>(_ items: [T]) -> T { items[number(0...items.count - 1)] }

    mutating func chance(_ percent: Int) -> Bool { number(1...100) <= percent }

    // MARK: - Values

    mutating func ipv4() -> String {
        "\(number(1...223)).\(number(0...255)).\(number(0...255)).\(number(1...254))"
    }

    mutating func ipv6() -> String {
        "fd00:\(String(number(1...65535), radix: 16))::\(String(number(1...65535), radix: 16))"
    }

    private mutating func ipv4Prefix() -> Expression {
        let bits = number(1...31)
        let address = UInt32(truncatingIfNeeded: random.next()) & (UInt32.max << UInt32(32 - bits))
        return .prefix("\(address >> 24).\(address >> 16 & 255).\(address >> 8 & 255).\(address & 255)", bits)
    }

    private mutating func ipv6Prefix() -> Expression {
        let groups = number(1...3)
        let text = (0..<groups).map { _ in String(number(1...65535), radix: 16) }.joined(separator: ":")
        return .prefix("\(text)::", 16 * groups)
    }

    private mutating func ipv4Range() -> Expression {
        let (a, b) = (number(1...120), number(121...250))
        let net = "\(number(1...223)).\(number(0...255)).\(number(0...255))"
        return .range(.text("\(net).\(a)"), .text("\(net).\(b)"))
    }

    mutating func ports() -> Expression {
        if chance(30) { return .range(.number(number(1...1000)), .number(number(1001...65535))) }
        return .number(number(1...65535))
    }

    mutating func interface() -> Expression { .text(pick(["lan", "wan", "eth0", "vlan.100", "br-guest"])) }

    mutating func distinct(_ count: Int, _ make: (inout RandomRuleset) -> Expression) -> [Expression] {
        var items: [Expression] = []
        for _ in 0..<count {
            let item = make(&self)
            if !items.contains(item) { items.append(item) }
        }
        return items
    }

    // MARK: - Rules

    private mutating func conditions(_ statements: inout [Statement]) {
        let comparison: Statement.Comparison = chance(80) ? .equal : .notEqual
        if chance(40) {
            statements.append(
                .match(
                    .meta(pick([.interface, .outputInterface])), comparison,
                    chance(50)
                        ? interface() : chance(30) ? .text("ppp*") : .set(distinct(number(1...4)) { $0.interface() })))
        }
        switch number(0...9) {
        case 0: statements.append(.match(.payload(.ip, pick(["saddr", "daddr"])), comparison, .text(ipv4())))
        case 1: statements.append(.match(.payload(.ip, pick(["saddr", "daddr"])), comparison, ipv4Prefix()))
        case 2: statements.append(.match(.payload(.ip, "saddr"), comparison, ipv4Range()))
        case 3: statements.append(.match(.payload(.ip6, pick(["saddr", "daddr"])), comparison, .text(ipv6())))
        case 4: statements.append(.match(.payload(.ip6, "daddr"), comparison, ipv6Prefix()))
        case 5:
            statements.append(
                .match(.payload(.ip, "daddr"), comparison, .set(distinct(number(2...20)) { .text($0.ipv4()) })))
        case 6: statements.append(.match(.payload(.ip, "saddr"), comparison, .named("addresses")))
        case 7: statements.append(.match(.meta(.nfproto), .equal, .text(pick(["ipv4", "ipv6"]))))
        default: break
        }
        switch number(0...9) {
        case 0, 1:
            statements.append(.match(.payload(pick([.tcp, .udp]), pick(["sport", "dport"])), comparison, ports()))
        case 2:
            statements.append(
                .match(
                    .payload(pick([.tcp, .udp]), "dport"), comparison,
                    .set(distinct(number(2...9)) { .number($0.number(1...65535)) })))
        case 3:
            statements.append(.match(.meta(.l4proto), .equal, .set([.text("tcp"), .text("udp")])))
            statements.append(.match(.payload(.th, "dport"), .equal, ports()))
        case 4: statements.append(.match(.ct(.state), .any, .list([.text("established"), .text("related")])))
        case 5: statements.append(.match(.ct(.state), .any, .text(pick(["new", "invalid", "untracked"]))))
        case 6: statements.append(.match(.meta(.l4proto), comparison, .text(pick(["gre", "esp", "sctp"]))))
        case 7:
            statements.append(
                .match(
                    .and(.payload(.tcp, "flags"), .list([.text("syn"), .text("ack")])), .equal, .text("syn")))
        default: break
        }
        if chance(10) { statements.append(.match(.meta(.mark), comparison, .number(number(0...Int(UInt32.max))))) }
        if chance(5) { statements.append(.match(.and(.ct(.mark), .number(0xFF00)), .equal, .number(0x1200))) }
        if chance(5) { statements.append(.match(.selector(.fib([.daddr], .kind)), comparison, .text("local"))) }
        if chance(5) {
            statements.append(
                .match(.selector(.fib([.saddr, .iif], .interface)), .equal, .number(chance(50) ? 0 : 1)))
        }
        if chance(5) { statements.append(.match(.ct(.status), .any, .text("dnat"))) }
        if chance(4) {
            statements.append(.match(.ct(.expiration), pick([.greater, .lessOrEqual]), .number(number(1...9999))))
        }
        if chance(5) { statements.append(.match(.ct(.direction), .equal, .text(pick(["original", "reply"])))) }
        if chance(5) {
            statements.append(
                .match(.selector(.tuple(pick([.original, .reply]), .source4)), comparison, .text(ipv4())))
        }
        if chance(3) { statements.append(.match(.selector(.isFragment), .equal, .number(number(0...1)))) }
        if chance(3) {
            statements.append(.match(.and(.payload(.ip, "frag-off"), .number(0x3FFF)), .notEqual, .number(0)))
        }
        if chance(4) {
            statements.append(
                .match(
                    .concatenation([.meta(.interface), .meta(.outputInterface)]), .equal,
                    .set(distinct(number(2...4)) { .concatenation([$0.interface(), $0.interface()]) })))
        }
    }

    private mutating func rule() -> Rule {
        var statements: [Statement] = []
        switch number(0...19) {
        case 0:
            let types = ["echo-request", "destination-unreachable", "time-exceeded"]
            statements.append(.match(.payload(.icmp, "type"), .equal, .set(types.map { .text($0) })))
        case 1: statements.append(.match(.payload(.icmpv6, "type"), .equal, .text("nd-neighbor-solicit")))
        default:
            conditions(&statements)
            laterConditions(&statements)
        }
        if chance(30) { statements.append(.counter("counted")) }
        if chance(10) {
            statements.append(
                .limit(
                    .init(
                        rate: number(1...1000), pick(Statement.Limit.Measure.allCases),
                        per: pick(Statement.Limit.Unit.allCases), burst: number(1...50),
                        isOver: chance(30))))
        }
        if chance(10) {
            statements.append(
                .log(
                    chance(50)
                        ? .init(
                            prefix: "rule \(number(1...99)): ",
                            level: pick(Statement.Log.levels.filter { $0 != "warn" }))
                        : .init(prefix: "group", group: number(1...9))))
        }
        if chance(5) {
            statements.append(.element(pick([.add, .update]), .payload(.ip, "saddr"), set: "seen", timeout: nil))
        }
        if chance(4) {
            let limit = Statement.Limit(
                rate: number(1...1000), pick(Statement.Limit.Measure.allCases),
                per: pick(Statement.Limit.Unit.allCases), burst: number(1...50), isOver: true)
            statements.append(
                .element(
                    .update, .payload(.ip, "saddr"), set: "seen", timeout: chance(50) ? 10 : nil, each: .limit(limit)))
        }
        if chance(4) {
            statements.append(
                .element(
                    .add, .payload(.ip, "saddr"), set: "connected", timeout: nil,
                    each: .connections(over: number(1...99))))
        }
        if fillsMaps, chance(4) {
            statements.append(
                .mapElement(
                    .update, .concatenation([.payload(.ip, "saddr"), .meta(.mark)]),
                    .concatenation([.payload(.ip, "daddr"), .meta(.mark)]), map: "filled",
                    timeout: chance(50) ? number(1...900) : nil))
        }
        if chance(5) {
            statements.append(
                .setMark(.meta(.mark), .or(.and(.meta(.mark), .number(0xFFFF_00FF)), .number(number(1...255) << 8))))
        }
        if chance(3) { statements.append(.setMark(.ct(.mark), .meta(.mark))) }
        // Both families in one rule can't be.
        if statements.contains(where: {
            "\($0)".contains("payload(Ruleset.Selector.Header.ip6") || "\($0)".contains("icmpv6")
                || "\($0)".contains("isFragment")
        }) {
            statements.removeAll {
                "\($0)".contains("Selector.Header.ip,") || "\($0)".contains("Header.icmp,")
                    || "\($0)".contains("source4")
            }
        }
        if statements.contains(where: { "\($0)".contains("nfproto") }) {
            statements.removeAll {
                "\($0)".contains("Selector.Header.ip") || "\($0)".contains("Header.icmp")
                    || "\($0)".contains("source4") || "\($0)".contains("isFragment")
            }
        }
        switch number(0...12) {
        case 0: statements.append(.verdict(.drop))
        case 1: statements.append(.verdict(.jump("other")))
        case 2: statements.append(.verdict(.goto("other")))
        case 3: statements.append(.verdict(.return))
        case 4: statements.append(.reject(.icmpx(pick(Array(Statement.Rejection.codes.keys.sorted())))))
        case 5:
            statements.append(
                .verdictMap(
                    .ct(.state),
                    [
                        .init(.text("established"), .accept), .init(.text("related"), .accept),
                        .init(.text("invalid"), .drop),
                    ]))
        case 6: statements.append(.namedVerdictMap(.meta(.interface), "zones"))
        case 7:
            statements.append(
                .verdictMap(
                    .concatenation([.meta(.interface), .meta(.outputInterface)]),
                    [.init(.concatenation([.text("lan"), .text("wan")]), .jump("other"))]))
        default: statements.append(.verdict(.accept))
        }
        return Rule(statements, comment: chance(50) ? "firewall: rules[\(number(0...999))]" : nil)
    }

    private mutating func natRule(_ kind: Statement.NATKind) -> Rule {
        var statements: [Statement] = [
            .match(.meta(kind == .dnat ? .interface : .outputInterface), .equal, interface())
        ]
        let isIPv6 = chance(20)
        var address: Expression = isIPv6 ? .text(ipv6()) : chance(20) ? ipv4Range() : .text(ipv4())
        if chance(40) {
            statements.append(
                .match(.payload(isIPv6 ? .ip6 : .ip, "daddr"), .equal, isIPv6 ? .text(ipv6()) : .text(ipv4())))
        }
        var port: Expression?
        if chance(60) {
            statements.append(.match(.payload(pick([.tcp, .udp]), "dport"), .equal, ports()))
            if chance(70) { port = ports() }
        }
        if !isIPv6, !"\(statements)".contains("dport"), chance(40) {
            let key = Expression.concatenation([.payload(.ip, "saddr"), .payload(.tcp, "sport")])
            statements.append(.nat(kind, .ip, address: .map(key, "targets"), port: nil))
        } else if kind == .snat, chance(40) {
            statements.append(.masquerade)
        } else {
            var flags: Set<Statement.NATFlag> = []
            if port == nil, chance(20) {
                (address, flags) = (isIPv6 ? ipv6Prefix() : ipv4Prefix(), [.netmap])
            } else if chance(20) {
                flags = [.persistent]
            }
            statements.append(.nat(kind, isIPv6 ? .ip6 : .ip, address: address, port: port, flags: flags))
        }
        return Rule(statements, comment: "nat: forwards[\(number(0...99))]")
    }

    mutating func table() -> TableContents {
        var addresses: [SetElement] = []
        for i in 0..<number(0...30) {
            // Apart from each other: nft refuses what overlaps.
            let net = "10.\(i)"
            switch number(0...2) {
            case 0: addresses.append(SetElement(.text("\(net).0.\(number(1...99))")))
            case 1: addresses.append(SetElement(.prefix("\(net).\(number(1...9)).0", 24)))
            default: addresses.append(SetElement(.range(.text("\(net).20.1"), .text("\(net).20.\(number(2...250))"))))
            }
        }
        let services = (0..<number(0...12)).map { i in
            SetElement(
                .concatenation([
                    chance(50) ? .text("192.168.\(i).1") : .prefix("192.168.\(i).0", 24),
                    chance(50) ? .number(80 + i) : .range(.number(1000), .number(2000 + i)),
                ]))
        }
        var sets = [
            NamedSet("addresses", key: [.ipv4Address], flags: [.interval], elements: addresses),
            NamedSet("services", key: [.ipv4Address, .service], flags: [.interval], elements: services),
            NamedSet(
                "plain6", key: [.ipv6Address],
                elements: distinct(number(0...9)) { .text($0.ipv6()) }.map { SetElement($0) }),
            NamedSet("seen", key: [.ipv4Address], flags: [.dynamic, .timeout], timeout: 60, size: 65535),
            NamedSet(
                "marks", key: [.ipv4Address], content: .values([.mark]),
                elements: (0..<number(0...4)).map {
                    SetElement(.text("10.2.2.\($0 + 1)"), .data(.number(number(1...99))))
                }
            ),
            NamedSet("connected", key: [.ipv4Address], flags: [.dynamic], size: 65535),
            NamedSet(
                "targets", key: [.ipv4Address, .service],
                content: .values(fillsMaps ? [.ipv4Address, .service] : [.ipv4Address]),
                elements: (0..<number(0...5)).map { i in
                    SetElement(
                        .concatenation([.text("10.1.1.\(i + 1)"), .number(number(1...65535))]),
                        .data(fillsMaps ? .concatenation([.text(ipv4()), .number(number(1...65535))]) : .text(ipv4())))
                }),
            NamedSet(
                "zones", key: [.interfaceName], content: .verdicts,
                elements: [
                    SetElement(.text("lan"), verdict: .jump("other")), SetElement(.text("wan"), verdict: .drop),
                ]),
        ]
        if fillsMaps {
            sets.append(
                NamedSet(
                    "filled", key: [.ipv4Address, .mark], content: .values([.ipv4Address, .mark]),
                    flags: [.dynamic, .timeout], timeout: 60, size: 65535))
        }
        let forward = Chain(
            "forward", hook: Hook(.filter, .forward, priority: 0, policy: pick([.accept, .drop])),
            rules: (0..<number(1...12)).map { _ in rule() })
        let dnat = Chain(
            "dnat", hook: Hook(.nat, .prerouting, priority: -100),
            rules: (0..<number(0...4)).map { _ in natRule(.dnat) })
        let snat = Chain(
            "snat", hook: Hook(.nat, .postrouting, priority: 100),
            rules: (0..<number(0...4)).map { _ in natRule(.snat) })
        let ingress = Chain(
            "ingress", hook: Hook(.filter, .ingress, priority: -500, device: "lo"),
            rules: [
                Rule([.match(.payload(.ip, "saddr"), .equal, ipv4Prefix()), .verdict(.drop)]),
                Rule([.match(.and(.payload(.ip, "frag-off"), .number(0x3FFF)), .notEqual, .number(0)), .verdict(.drop)]
                ),
            ])
        let syn = Chain(
            "syn", hook: Hook(.filter, .input, priority: 5),
            rules: [
                Rule([
                    .match(.payload(.tcp, "dport"), .equal, ports()),
                    .synproxy(
                        .init(
                            mss: number(500...1460), windowScale: number(0...14), timestamps: chance(50),
                            selectiveAcknowledgements: chance(50))),
                ])
            ])
        let mangle = Chain(
            "mangle", hook: Hook(.filter, .prerouting, priority: -150),
            rules: (0..<number(1...6)).map { _ in mangled() })
        let clamp = Chain(
            "clamp", hook: Hook(.route, .output, priority: -150),
            rules: [
                Rule([
                    .match(.and(.payload(.tcp, "flags"), .list([.text("syn"), .text("rst")])), .equal, .text("syn")),
                    .mangle(.tcpOption(.maximumSegmentSize, .value), .selector(.routeMTU)),
                ])
            ])
        return TableContents(
            chains: [Chain("other"), forward, dnat, snat, ingress, syn, mangle, clamp], sets: sets,
            counters: [NamedCounter("counted", comment: chance(50) ? "how often" : nil)])
    }
}
