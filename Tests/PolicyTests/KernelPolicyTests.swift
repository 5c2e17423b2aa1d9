import Glibc
import TestSupport
import Testing

/// What the kernel counts of real packets is what the rules say, one by one.
@Suite(.serialized) struct KernelPolicyTests {
    /// Sends packets through a policy and compares, by rule and policy, how many the kernel has counted.
    ///
    /// - Returns: the first difference.
    static func compare(
        rules: Int, packets: Int, _ network: KernelNetwork, _ random: inout Random
    ) throws -> String? {
        let policy = RandomPolicy(rules: rules, &random)
        let compiled = try CompiledPolicy(policy)
        if let error = compiled.diagnostics.first(where: { $0.severity == .error }) { return "\(error)" }
        try network.apply(compiled.table)
        let before = try network.counters()
        var wanted: [String: Int] = [:]
        var sample: [String: TestPacket] = [:]
        var sent = 0
        while sent < packets {
            // As many at once as wait in the kernel without a loss.
            for _ in 0..<min(200, packets - sent) {
                var packet = policy.packet(&random)
                while network.isReply(packet) { packet = policy.packet(&random) }
                let counter = policy.decide(packet).counter
                wanted[counter, default: 0] += 1
                sample[counter] = packet
                try network.send(packet)
                sent += 1
            }
            // Whatever becomes of a packet, it is counted.
            _ = try Wait.until(5) {
                let now = try network.counters()
                return now.reduce(0) { $0 + $1.value - (before[$1.key] ?? 0) } >= sent
            }
        }
        let counted = try network.counters().map { ($0.key, $0.value - (before[$0.key] ?? 0)) }
        let wrong = counted.filter { $0.1 != wanted[$0.0] ?? 0 }.sorted { $0.0 < $1.0 }
        if !wrong.isEmpty {
            let lines = wrong.map { name, count in
                "\(name) counted \(count), written \(wanted[name] ?? 0), such as "
                    + "\(sample[name].map { "\($0)" } ?? "none")"
            }
            return "\(rules) rules, \(sent) sent, \(counted.reduce(0) { $0 + $1.1 }) counted:\n"
                + lines.joined(separator: "\n")
        }
        return nil
    }

    @Test func randomPoliciesDecideRealPacketsAsWritten() throws {
        var random = Random(seed: 5)
        let network = try KernelNetwork()
        for round in 0..<30 {
            let rules = [1, 3, 10, 30, 100, 400][round % 6]
            if let difference = try Self.compare(rules: rules, packets: 300, network, &random) {
                Issue.record("round \(round): \(difference)")
                return
            }
        }
        print("9000 real packets through 30 compiled policies: as written")
    }
}

/// The same with more of everything: `make torture`.
@Suite(.serialized) struct PolicyTorture {
    private static let sizes = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000]

    @Test func aMillionPacketsInMemory() throws {
        var random = Random(seed: Torture.seed)
        var compared = 0
        var round = 0
        while compared < 1_000_000 {
            let (count, difference) = try PolicyTests.compare(
                rules: Self.sizes[round % Self.sizes.count], packets: 5000, &random)
            compared += count
            round += 1
            if let difference {
                try Torture.note("packets through compiled policies in memory", checked: compared, failed: 1)
                Issue.record("round \(round), seed \(Torture.seed): \(difference)")
                return
            }
        }
        try Torture.note("packets through compiled policies in memory", checked: compared, failed: 0)
    }

    @Test func aHundredThousandPacketsInTheKernel() throws {
        var random = Random(seed: Torture.seed)
        let network = try KernelNetwork()
        var compared = 0
        for round in 0..<220 {
            let difference = try KernelPolicyTests.compare(
                rules: Self.sizes[round % Self.sizes.count], packets: 500, network, &random)
            compared += 500
            if let difference {
                try Torture.note("packets through compiled policies in the kernel", checked: compared, failed: 1)
                Issue.record("round \(round), seed \(Torture.seed): \(difference)")
                return
            }
        }
        try Torture.note("packets through compiled policies in the kernel", checked: compared, failed: 0)
    }
}
