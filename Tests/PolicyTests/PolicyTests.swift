import Addresses
import Documents
import Planning
import TestSupport
import Testing

/// A compiled policy means what its rules say one by one.
@Suite struct PolicyTests {
    /// - Returns: how many packets were compared, and the first difference.
    static func compare(
        rules: Int, packets: Int, _ random: inout Random
    ) throws -> (compared: Int, difference: String?) {
        let policy = RandomPolicy(rules: rules, &random)
        let compiled = try CompiledPolicy(policy)
        if let error = compiled.diagnostics.first(where: { $0.severity == .error }) {
            return (0, "\(error)\n\(policy.configuration.pretty)")
        }
        let indexes = SetIndexes(compiled.table)
        for i in 0..<packets {
            let packet = policy.packet(&random)
            let (wanted, got) = (policy.decide(packet), compiled.decide(packet, indexes))
            if wanted != got {
                return (i, "\(rules) rules, \(packet)\n  written:  \(wanted)\n  compiled: \(got)")
            }
        }
        return (packets, nil)
    }

    @Test func randomPoliciesMeanTheSameCompiled() throws {
        var random = Random(seed: 7)
        var compared = 0
        for round in 0..<100 {
            let rules = [1, 2, 3, 5, 8, 13, 21, 40, 80, 200][round % 10]
            let (count, difference) = try Self.compare(rules: rules, packets: 300, &random)
            compared += count
            if let difference {
                Issue.record("round \(round): \(difference)")
                return
            }
        }
        print("\(compared) packets through 100 compiled policies: as written")
    }

    /// What is said of rules that no packet meets holds, and finds those that several others take together.
    @Test func whatIsNeverMetIsNeverMet() throws {
        var random = Random(seed: 11)
        var (told, more) = (0, 0)
        for round in 0..<60 {
            let policy = RandomPolicy(rules: [5, 8, 13, 21, 40, 80][round % 6], &random)
            let compiled = try CompiledPolicy(policy, explains: true)
            let counters = Set(
                compiled.unreached.compactMap { Int($0) }.map { "firewall.rule.\(policy.rules[$0].name)" })
            told += counters.count
            more += compiled.unreached.subtracting(try CompiledPolicy(policy).unreached).count
            for _ in 0..<300 {
                let packet = policy.packet(&random)
                let counter = policy.decide(packet).counter
                guard !counters.contains(counter) else {
                    Issue.record("round \(round): \(packet) meets \(counter)\n\(policy.configuration.pretty)")
                    return
                }
            }
        }
        #expect(told > 0 && more > 0)
        print("\(told) rules that no packet meets, \(more) of them taken by several others together")
    }

    /// A rule that alone would be one look-up, but shares a source with one before it.
    @Test func aRuleThatMeetsAnotherIsNoElementOfATable() throws {
        func host(_ number: UInt128) -> RandomPolicy.Addresses {
            let address = IPAddress(.ipv4, value: 10 << 24 | number)
            return .range(first: address, last: address, text: address.description)
        }
        func rule(_ name: String, from: [UInt128], to: [UInt128], ports: [ClosedRange<Int>], _ action: String)
            -> RandomPolicy.Rule
        {
            RandomPolicy.Rule(
                name: name, sources: from.map(host), destinations: to.map(host), transports: [6], ports: ports,
                action: action)
        }
        var rules = [
            rule("first", from: [1], to: [], ports: [], "drop"),
            rule("second", from: [1, 2], to: [100], ports: [80...80], "accept"),
        ]
        for i in 0..<8 {
            rules.append(rule("r\(i)", from: [UInt128(10 + i)], to: [UInt128(200 + i)], ports: [80...80], "accept"))
        }
        let policy = RandomPolicy(rules)
        let compiled = try CompiledPolicy(policy)
        // The others are elements of one.
        #expect(compiled.table.sets.keys.contains { $0.hasSuffix("src-dst-proto-port") }, "\(compiled.table.sets.keys)")
        let indexes = SetIndexes(compiled.table)
        for from in [1, 2, 3, 10, 11] as [UInt128] {
            for to in [100, 200, 201] as [UInt128] {
                let packet = TestPacket(
                    input: 0, output: 0, source: IPAddress(.ipv4, value: 10 << 24 | from),
                    destination: IPAddress(.ipv4, value: 10 << 24 | to), transport: 6, sourcePort: 5000, port: 80)
                #expect(policy.decide(packet) == compiled.decide(packet, indexes))
            }
        }
    }

    /// Rules that only their ports tell apart, or only their sources, or both by halves: a packet is compared with few.
    @Test(arguments: ["ports", "sources", "halves"]) func aThousandRulesAreAFewLookUps(kind: String) throws {
        let rules = (0..<1000).map { i -> RandomPolicy.Rule in
            var rule = RandomPolicy.Rule(name: "r\(i)", transports: [6], action: i % 3 == 0 ? "drop" : "accept")
            if kind == "ports" || kind == "halves" && i < 500 {
                rule.ports = [1000 + 2 * i...1001 + 2 * i]
            } else {
                let address = IPAddress(.ipv4, value: 10 << 24 | UInt128(i))
                rule.sources = [.range(first: address, last: address, text: address.description)]
            }
            return rule
        }
        let policy = RandomPolicy(rules)
        let compiled = try CompiledPolicy(policy)
        let longest = compiled.table.chains.values.filter { $0.name.hasPrefix("firewall.forward") }.map(\.rules.count)
            .max()
        #expect(longest ?? 0 <= 8, "\(kind): a chain of \(longest ?? 0) rules")
        let indexes = SetIndexes(compiled.table)
        var random = Random(seed: 3)
        for _ in 0..<500 {
            let packet = policy.packet(&random)
            #expect(policy.decide(packet) == compiled.decide(packet, indexes), "\(packet)")
        }
    }
}
