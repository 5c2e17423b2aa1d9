@testable import Planning
import PluginKit
import Testing

/// What a supposed packet meets in each statement, and which of its values are unknown.
@Suite struct WalkTests {
    private static let source = Expression.payload(.ip, "saddr")

    /// A connection's first packet over TCP, through one chain at the stage `forward`.
    private func walk(
        _ rules: [[Statement]], sets: [NamedSet] = [], saved: UInt32 = .max,
        _ change: (inout SupposedPacket) -> Void = { _ in }
    ) throws -> (walk: PacketWalk, end: PacketWalk.End) {
        let chain = Chain("x.c", rules: rules.enumerated().map { Rule($0.element, comment: "x: rules[\($0.offset)]") })
        let resources: [NftablesResource] =
            [.chain(chain, stage: .init(.forward, order: 1)), .savedMarks(saved)] + sets.map { .set($0) }
        let addresses = try ["10.0.0.1", "192.0.2.1"].map { try #require(IPAddress($0)) }
        var packet = SupposedPacket(
            input: "lan", source: addresses[0], destination: addresses[1], transport: "tcp", port: 80)
        change(&packet)
        var walk = PacketWalk(
            packet, through: TablePlan(resources),
            .init(members: { _ in [] }, isLocal: { _ in false }, leads: { _, _ in true }))
        var end = walk.pass(.prerouting)
        if end == .accept { end = walk.pass(.forward) }
        return (walk, end)
    }

    private func mark(_ key: Selector.ConnectionKey, is number: Int) -> Statement {
        .match(.ct(key), .equal, .number(number))
    }

    @Test func connectionMarkIsUnknownUnlessItIsGiven() throws {
        let rules: [[Statement]] = [[mark(.mark, is: 0), .verdict(.drop)], [.verdict(.accept)]]
        let unknown = try walk(rules)
        #expect(unknown.end == .accept && unknown.walk.unknown == ["x: rules[0]"])
        let known = try walk(rules) { $0.connectionMark = 0 }
        #expect(known.end == .drop && known.walk.unknown.isEmpty)
        #expect(try walk(rules) { $0.connectionMark = 5 }.end == .accept)
    }

    /// A map's element for an unknown key is unknown, as the answer of a match about it is.
    @Test func keysOfMapsMayBeUnknown() throws {
        let key = Expression.ct(.mark)
        let named = NamedSet(
            "x.map", key: [.mark], content: .verdicts, elements: [SetElement(.number(7), .verdict(.drop))])
        let maps: [[Statement]] = [
            [.verdictMap(key, [VerdictMapEntry(.number(7), .drop)])], [.namedVerdictMap(key, "x.map")],
        ]
        for map in maps {
            let unknown = try walk([map, [.verdict(.accept)]], sets: [named])
            #expect(unknown.end == .accept && unknown.walk.unknown == ["x: rules[0]"], "\(map)")
            let lacking = try walk([map, [.verdict(.accept)]], sets: [named]) { $0.connectionMark = 8 }
            #expect(lacking.end == .accept && lacking.walk.unknown.isEmpty, "\(map)")
            let found = try walk([map, [.verdict(.accept)]], sets: [named]) { $0.connectionMark = 7 }
            #expect(found.end == .drop && found.walk.unknown.isEmpty, "\(map)")
        }
        let targets = NamedSet(
            "x.targets", key: [.mark], content: .values([.ipv4Address]),
            elements: [SetElement(.number(7), .data(.text("10.0.0.9")))])
        let translation: [Statement] = [.nat(.dnat, .ip, address: .map(key, "x.targets"), port: nil)]
        let rules = [translation, [.verdict(.drop)]]
        #expect(try walk(rules, sets: [targets]).walk.unknown == ["x: rules[0]"])
        #expect(try walk(rules, sets: [targets]) { $0.connectionMark = 8 }.walk.unknown.isEmpty)
        #expect(try walk(rules, sets: [targets]) { $0.connectionMark = 7 }.end == .accept)
    }

    /// Packets fill it, so what the plan has of it says nothing of what it lacks.
    @Test func elementsOfDynamicMapsAreUnknown() throws {
        func map(_ content: NamedSet.Content) -> NamedSet {
            NamedSet("x.map", key: [.ipv4Address], content: content, flags: [.dynamic])
        }
        let translation: [Statement] = [.nat(.dnat, .ip, address: .map(Self.source, "x.map"), port: nil)]
        let translated = try walk([translation, [.verdict(.accept)]], sets: [map(.values([.ipv4Address]))])
        #expect(translated.end == .accept && translated.walk.unknown == ["x: rules[0]"])
        let verdicts: [Statement] = [.namedVerdictMap(Self.source, "x.map")]
        let judged = try walk([verdicts, [.verdict(.accept)]], sets: [map(.verdicts)])
        #expect(judged.end == .accept && judged.walk.unknown == ["x: rules[0]"])
        let write = Statement.setMark(.meta(.mark), .map(Self.source, "x.map"))
        let isSeven: [[Statement]] = [
            [.match(.meta(.mark), .equal, .number(7)), .verdict(.accept)], [.verdict(.accept)],
        ]
        let marked = try walk([[write]] + isSeven, sets: [map(.values([.mark]))])
        #expect(marked.walk.unknown == ["x: rules[1]"])
        // A map that lacks the key ends the rule.
        let dropped = try walk([[write, .verdict(.drop)], [.verdict(.accept)]], sets: [map(.values([.mark]))])
        #expect(dropped.end == .accept && dropped.walk.unknown == ["x: rules[0]"])
    }

    /// Addresses and ports of translations are values, and their words are made of them.
    @Test func translationsAreValues() throws {
        func step(_ statement: Statement, sets: [NamedSet] = []) throws -> PacketWalk.Step? {
            try walk([[statement]], sets: sets) { $0.connectionMark = 7 }.walk.steps.last
        }
        func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }
        let (inside, outside) = (try address("10.0.0.9"), try address("203.0.113.7"))
        let forwarded = try step(.nat(.dnat, .ip, address: .text("10.0.0.9"), port: .number(8080)))
        #expect(forwarded?.translation?.addresses == inside...inside)
        #expect(forwarded?.translation?.ports == 8080...8080 && forwarded?.verdict == "dnat to 10.0.0.9 port 8080")
        #expect(forwarded?.translation?.explains(outside, becoming: inside, port: 8080) == true)
        #expect(forwarded?.translation?.explains(outside, becoming: inside, port: 80) == false)
        #expect(forwarded?.translation?.explains(outside, becoming: outside, port: 8080) == false)
        let pool = try step(.nat(.snat, .ip, address: .range(.text("203.0.113.7"), .text("203.0.113.9")), port: nil))
        #expect(try pool?.translation?.addresses == outside...address("203.0.113.9"))
        #expect(pool?.verdict == "snat to 203.0.113.7-203.0.113.9")
        #expect(try pool?.translation?.explains(inside, becoming: address("203.0.113.8")) == true)
        #expect(try pool?.translation?.explains(inside, becoming: address("2001:db8::8")) == false)
        let network = try step(.nat(.dnat, .ip, address: .prefix("10.9.0.0", 16), port: nil, flags: [.netmap]))
        // The packet is for 192.0.2.1.
        #expect(network?.verdict == "dnat to 10.9.2.1")
        let port = try step(.nat(.dnat, .ip, address: nil, port: .number(53)))
        #expect(port?.verdict == "dnat port 53" && port?.translation?.explains(inside, becoming: outside) == true)
        let masquerade = try step(.masquerade)
        #expect(masquerade?.verdict == "masquerade" && masquerade?.translation?.addresses == nil)
        #expect(masquerade?.translation?.explains(inside, becoming: outside) == true)
        #expect(masquerade?.translation?.explains(inside, becoming: inside) == false)
        let map = NamedSet(
            "x.map", key: [.mark], content: .ranges([.ipv4Address, .service]),
            elements: [
                SetElement(
                    .number(7), .data(.concatenation([.text("203.0.113.7"), .range(.number(1024), .number(2047))])))
            ])
        let mapped = try step(.nat(.snat, .ip, address: .map(.ct(.mark), "x.map"), port: nil), sets: [map])
        #expect(mapped?.verdict == "snat to 203.0.113.7 port 1024-2047" && mapped?.translation?.ports == 1024...2047)
        #expect(try step(.verdict(.accept))?.translation == nil)
    }

    /// The packet path restores the mark from the connection: of an unknown one, the packet's is unknown, too.
    @Test func packetMarkComesFromTheConnection() throws {
        let rules: [[Statement]] = [
            [.match(.meta(.mark), .equal, .number(7)), .verdict(.accept)], [.verdict(.drop)],
        ]
        #expect(try walk(rules) { $0.connectionMark = 7 }.end == .accept)
        #expect(try walk(rules) { $0.connectionMark = 0 }.walk.unknown.isEmpty)
        #expect(try walk(rules).walk.unknown == ["x: rules[0]"])
        // A policy without marks does not care.
        #expect(try walk([[.verdict(.accept)]]).walk.unknown.isEmpty)
        // What a rule writes is known again.
        let written: [[Statement]] = [[.setMark(.meta(.mark), .number(7))]] + rules
        #expect(try walk(written).end == .accept)
        #expect(try walk(written).walk.unknown.isEmpty)
        // What it may have written is not.
        let perhaps: [[Statement]] =
            [[mark(.mark, is: 1), .setMark(.meta(.mark), .number(9))]] + rules
        #expect(try walk([[.setMark(.meta(.mark), .number(7))]] + perhaps).walk.unknown == ["x: rules[2]"])
    }

    /// An unknown field leaves the others known.
    @Test func fieldsAreKnownEachByItself() throws {
        func field(_ mask: Int, is value: Int) -> [[Statement]] {
            [
                [.match(.and(.meta(.mark), .number(mask)), .equal, .number(value)), .verdict(.accept)],
                [.verdict(.drop)],
            ]
        }
        // The connection keeps 0xF0, and nothing else.
        let kept = try walk(field(0xF0, is: 0x70), saved: 0xF0) { $0.connectionMark = 0x7F }
        #expect(kept.end == .accept && kept.walk.unknown.isEmpty)
        #expect(try walk(field(0x0F, is: 0), saved: 0xF0) { $0.connectionMark = 0x7F }.end == .accept)
        // A mark of the packet's own stays beside it.
        let beside = try walk(field(0xFF, is: 0x7A), saved: 0xF0) {
            ($0.connectionMark, $0.mark) = (0x7F, 0x0A)
        }
        #expect(beside.end == .accept && beside.walk.unknown.isEmpty)
        #expect(try walk(field(0xF0, is: 0x70), saved: 0xF0).walk.unknown == ["x: rules[0]"])
        let other = try walk(field(0x0F, is: 0), saved: 0xF0)
        #expect(other.end == .accept && other.walk.unknown.isEmpty)
        // What is written under an unknown condition is unknown in its field alone.
        let write = Statement.setMark(.meta(.mark), .or(.and(.meta(.mark), .number(0xFFFF_FFF0)), .number(3)))
        let perhaps: [[Statement]] = [[.match(.selector(.zone(nil)), .equal, .number(5)), write]]
        #expect(try walk(perhaps + field(0x0F, is: 3), saved: 0xF0).walk.unknown == ["x: rules[1]"])
        let rest = try walk(perhaps + field(0xF00, is: 0), saved: 0xF0)
        #expect(rest.end == .accept && rest.walk.unknown.isEmpty)
    }

    @Test func zonesAreUnknownUntilTheyAreWritten() throws {
        let rules: [[Statement]] = [
            [.match(.selector(.zone(nil)), .equal, .number(5)), .verdict(.accept)], [.verdict(.drop)],
        ]
        #expect(try walk(rules).walk.unknown == ["x: rules[0]"])
        #expect(try walk(rules) { $0.zone = 5 }.end == .accept)
        #expect(try walk(rules) { $0.zone = 6 }.end == .drop)
        #expect(try walk([[.mangle(.zone(.original), .number(5))]] + rules).end == .accept)
        #expect(try walk([[.mangle(.zone(.reply), .number(5))]] + rules).walk.unknown == ["x: rules[1]"])
    }

    @Test(arguments: [
        Expression.selector(.traffic(nil, .packets)), .selector(.traffic(.reply, .bytes)), .selector(.routeMTU),
        .selector(.tcpOption(.maximumSegmentSize, .value)), .selector(.tcpOption(.windowScale, .presence)),
        .meta(.priority), .payload(.ip, "dscp"), .jhash(JHash(Self.source, modulus: 2)),
        .numgen(NumberGenerator(.random, modulus: 2)),
    ])
    func theValueIsUnknown(_ left: Expression) throws {
        let found = try walk([[.match(left, .equal, .number(1)), .verdict(.drop)], [.verdict(.accept)]])
        #expect(found.end == .accept && found.walk.unknown == ["x: rules[0]"])
    }

    @Test func otherProtocolsHaveNoSuchThing() throws {
        let rules: [[Statement]] = [
            [.match(.selector(.tcpOption(.maximumSegmentSize, .value)), .greater, .number(1)), .verdict(.drop)],
            [.match(.payload(.ip6, "dscp"), .notEqual, .text("ef")), .verdict(.drop)], [.verdict(.accept)],
        ]
        let found = try walk(Array(rules[1...]))
        #expect(found.end == .accept && found.walk.unknown.isEmpty)
    }

    @Test func whatIsWrittenIsMet() throws {
        let ef = Statement.match(.payload(.ip, "dscp"), .equal, .text("ef"))
        let dscp = try walk([[.mangle(.payload(.ip, "dscp"), .text("ef"))], [ef, .verdict(.accept)]])
        #expect(dscp.end == .accept && dscp.walk.unknown.isEmpty)
        let priority = try walk([
            [.mangle(.meta(.priority), .text("1:10"))],
            [.match(.meta(.priority), .equal, .text("1:10")), .verdict(.accept)],
        ])
        #expect(priority.end == .accept && priority.walk.packet.priority == 0x10010)
        let segment = try walk([
            [.mangle(.tcpOption(.maximumSegmentSize, .value), .selector(.routeMTU))], [.verdict(.accept)],
        ])
        #expect(segment.end == .accept && segment.walk.unknown.isEmpty)
    }

    @Test func marksComeFromMaps() throws {
        let map = NamedSet(
            "x.m", key: [.ipv4Address], content: .values([.mark]),
            elements: [SetElement(.text("10.0.0.1"), .data(.number(7)))])
        let isSeven: [Statement] = [.match(.meta(.mark), .equal, .number(7)), .verdict(.accept)]
        #expect(
            try walk([[.setMark(.meta(.mark), .map(Self.source, "x.m"))], isSeven], sets: [map]).end == .accept)
        // Nothing found, the rule ends.
        let missed = try walk(
            [[.setMark(.meta(.mark), .map(.payload(.ip, "daddr"), "x.m")), .verdict(.drop)], [.verdict(.accept)]],
            sets: [map])
        #expect(missed.end == .accept && missed.walk.unknown.isEmpty)
        let ports: [ValueMapEntry] = [.init(.number(80), .number(7)), .init(.number(443), .number(8))]
        #expect(
            try walk([[.setMark(.meta(.mark), .valueMap(.payload(.tcp, "dport"), ports))], isSeven]).end == .accept)
        let random: [ValueMapEntry] = [.init(.number(0), .number(7)), .init(.number(1), .number(8))]
        let chosen = Expression.valueMap(.numgen(NumberGenerator(.increment, modulus: 2)), random)
        #expect(try walk([[.setMark(.meta(.mark), chosen)], isSeven]).walk.unknown == ["x: rules[1]"])
    }

    @Test func programsAndCopies() throws {
        let queued = try walk([[.queue(.range(.number(1), .number(4)), flags: [.bypass])], [.verdict(.drop)]])
        #expect(queued.end == .accept && queued.walk.steps.map(\.verdict) == ["queue to 1-4"])
        // The program's verdict is unknown.
        #expect(queued.walk.unknown == ["queue to 1-4"])
        let proxied = try walk([[.tproxy(.ip, address: "127.0.0.1", port: 8080), .verdict(.accept)]])
        #expect(proxied.walk.steps.map(\.verdict) == ["tproxy to 127.0.0.1:8080"])
        let copied = try walk([[.duplicate(to: .gateway("10.0.0.9", link: nil)), .verdict(.accept)]])
        #expect(copied.end == .accept && copied.walk.steps.map(\.verdict) == ["accept"])
        let forwarded = try walk([[.forward(to: "wan")], [.verdict(.accept)]])
        #expect(forwarded.end == .drop && forwarded.walk.steps.map(\.verdict) == ["fwd to wan"])
    }
}
