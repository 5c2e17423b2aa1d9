import Addresses
import Glibc
import Netlink
import Testing

/// Policy rules, and iproute2's view of them.
@Suite struct RuleTests {
    let network: TestNetwork

    init() throws { network = try TestNetwork() }

    private func rule(
        _ family: IPAddress.Family = .ipv4, table: Int = 1000, source: String? = nil, destination: String? = nil
    ) throws -> PolicyRule {
        PolicyRule(
            family: family, priority: 100, table: table, source: try source.map(prefix),
            destination: try destination.map(prefix), origin: TestNetwork.origin)
    }

    private func ours(_ socket: RouteSocket) throws -> [PolicyRule] {
        try socket.policyRules(origin: TestNetwork.origin)
    }

    @Test func aRuleFromEverywhereIsReadAsItIsWanted() throws {
        try network.run { socket in
            for text in ["0.0.0.0/0", "::/0"] {
                let rule = try rule(try prefix(text).family, source: text)
                try socket.add(rule)
                #expect(try ours(socket) == [rule])
                // A repair that adds it again must not fail, nor double it.
                try socket.add(rule)
                #expect(try ours(socket) == [rule])
                try socket.delete(rule)
                #expect(try ours(socket).isEmpty)
            }
        }
    }

    @Test func aRuleForMarkZeroIsReadAsItIsWanted() throws {
        try network.run { socket in
            let rule = PolicyRule(
                family: .ipv4, priority: 100, table: 1000, mark: 0, markMask: 0xFF, origin: TestNetwork.origin)
            try socket.add(rule)
            try socket.add(rule)
            #expect(try ours(socket) == [rule])
            #expect(try ip("rule list priority 100").contains("fwmark 0/0xff"))
            try socket.delete(rule)
            #expect(try ours(socket).isEmpty)
        }
    }

    @Test func theNormalFormOfMarks() {
        func marks(_ mark: UInt32?, _ mask: UInt32?) -> [UInt32?] {
            let rule = PolicyRule(family: .ipv4, priority: 1, table: 1, mark: mark, markMask: mask)
            return [rule.mark, rule.markMask]
        }
        #expect(marks(nil, nil) == [nil, nil])
        #expect(marks(5, nil) == [5, .max])
        #expect(marks(0, nil) == [nil, .max])
        #expect(marks(0, 0xFF) == [nil, 0xFF])
        #expect(marks(nil, 0xFF) == [nil, 0xFF])
        #expect(marks(5, 0) == [nil, nil])
        #expect(marks(0x105, 0xFF) == [5, 0xFF])
    }

    @Test func theNormalFormOfTheRest() throws {
        var rule = PolicyRule(
            family: .ipv4, priority: 1, table: 7, source: try prefix("10.1.2.3/8"),
            destination: try prefix("0.0.0.0/0"), interface: "", transport: 0, sourcePorts: 0...65535,
            users: 0...UInt32.max)
        let plain = PolicyRule(family: .ipv4, priority: 1, table: 7, source: try prefix("10.0.0.0/8"))
        #expect(rule == plain)
        rule.isL3mdev = true
        #expect(rule.normalForm.table == 0)
        rule = PolicyRule(family: .ipv4, priority: 1, table: 7, action: .blackhole, suppressedPrefixLength: 0)
        #expect(rule == PolicyRule(family: .ipv4, priority: 1, action: .blackhole))
        #expect(rule.normalForm.normalForm == rule.normalForm)
    }

    @Test func anotherProgramsEqualRuleIsNoObstacle() throws {
        try network.run { socket in
            var foreign = try rule(source: "10.0.0.0/8")
            foreign.origin = 99
            let own = try rule(source: "10.0.0.0/8")
            try socket.add(foreign)
            try socket.add(own)
            try socket.add(own)
            #expect(try ours(socket) == [own])
            try socket.delete(own)
            #expect(try ours(socket).isEmpty)
            #expect(try socket.policyRules(origin: 99) == [foreign])
        }
    }

    /// The kernel alone would remove the first rule of the priority that has all the request names.
    @Test func theRemovalOfAWideRuleKeepsTheNarrowOneBeforeIt() throws {
        try network.run { socket in
            let (narrow, wide) = (try rule(source: "10.0.0.0/8"), try rule())
            try socket.add(narrow)
            try socket.add(wide)
            try socket.delete(wide)
            #expect(try ours(socket) == [narrow])
        }
    }

    @Test func theRemovalOfARuleThatIsGoneIsNamed() throws {
        try network.run { socket in
            #expect { try socket.delete(try rule()) } throws: { ($0 as? NetlinkError)?.code == ENOENT }
        }
    }

    /// Each rule, and what ip(8) is told for it.
    private func pairs() throws -> [(PolicyRule, String)] {
        func rule(_ family: IPAddress.Family = .ipv4, table: Int = 1000, _ set: (inout PolicyRule) -> Void = { _ in })
            -> PolicyRule
        {
            var rule = PolicyRule(family: family, priority: 100, table: table, origin: TestNetwork.origin)
            set(&rule)
            return rule.normalForm
        }
        let (net4, net6) = (try prefix("192.0.2.0/24"), try prefix("2001:db8::/32"))
        return [
            (rule(), "table 1000"),
            (rule(.ipv6), "table 1000"),
            (rule(table: 7) { $0.source = net4 }, "from 192.0.2.0/24 table 7"),
            (rule { $0.destination = net4 }, "to 192.0.2.0/24 table 1000"),
            (rule(.ipv6) { $0.source = net6 }, "from 2001:db8::/32 table 1000"),
            (rule(.ipv6) { $0.destination = net6 }, "to 2001:db8::/32 table 1000"),
            (rule { $0.mark = 5 }, "fwmark 5 table 1000"),
            (
                rule {
                    $0.mark = 0x100
                    $0.markMask = 0xFF00
                }, "fwmark 0x100/0xff00 table 1000"
            ),
            (rule { $0.markMask = 0xFF }, "fwmark 0/0xff table 1000"),
            (rule { $0.interface = "wan" }, "iif wan table 1000"),
            (rule { $0.interface = "lo" }, "iif lo table 1000"),
            (rule(.ipv6) { $0.outputInterface = "lan" }, "oif lan table 1000"),
            (rule { $0.isL3mdev = true }, "l3mdev"),
            (rule(.ipv6) { $0.isL3mdev = true }, "l3mdev"),
            (rule(table: 254) { $0.suppressedPrefixLength = 0 }, "table main suppress_prefixlength 0"),
            (rule { $0.suppressedPrefixLength = 24 }, "table 1000 suppress_prefixlength 24"),
            (rule { $0.transport = 6 }, "ipproto tcp table 1000"),
            (
                rule(.ipv6) {
                    $0.transport = 17
                    $0.sourcePorts = 1000...2000
                    $0.destinationPorts = 53...53
                }, "ipproto udp sport 1000-2000 dport 53 table 1000"
            ),
            (rule { $0.users = 0...0 }, "uidrange 0-0 table 1000"),
            (rule { $0.action = .blackhole }, "blackhole"),
            (rule(.ipv6) { $0.action = .unreachable }, "unreachable"),
            (
                rule {
                    $0.action = .prohibit
                    $0.source = net4
                }, "from 192.0.2.0/24 prohibit"
            ),
            (
                rule {
                    $0.isInverted = true
                    $0.source = net4
                }, "not from 192.0.2.0/24 table 1000"
            ),
        ]
    }

    @Test func eachRuleIsTheOneThatIproute2Makes() throws {
        try network.run { socket in
            for (rule, words) in try pairs() {
                let family = rule.family == .ipv4 ? "-4" : "-6"
                try socket.add(rule)
                let made = try ip("\(family) rule list priority 100")
                #expect(try ours(socket) == [rule], "\(words)")
                try socket.delete(rule)
                try ip("\(family) rule add priority 100 protocol 118 \(words)")
                #expect(try ip("\(family) rule list priority 100") == made, "\(words)")
                #expect(try ours(socket) == [rule], "\(words)")
                try socket.delete(rule)
            }
        }
    }
}
