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

    /// Compares policies of all sizes until enough packets are compared, or a difference is found.
    private func run(
        _ name: String, until enough: Int, _ compare: (Int, inout Random) throws -> (compared: Int, difference: String?)
    ) throws {
        var random = Random(seed: Torture.seed)
        var (compared, round) = (0, 0)
        var difference: String?
        while compared < enough, difference == nil {
            let found = try compare(Self.sizes[round % Self.sizes.count], &random)
            compared += found.compared
            difference = found.difference.map { "round \(round), seed \(Torture.seed): \($0)" }
            round += 1
        }
        try Torture.note(
            "packets through compiled policies \(name)", checked: compared, failed: difference == nil ? 0 : 1)
        if let difference { Issue.record("\(difference)") }
    }

    @Test func aMillionPacketsInMemory() throws {
        try run("in memory", until: 1_000_000) { try PolicyTests.compare(rules: $0, packets: 5000, &$1) }
    }

    @Test func aHundredThousandPacketsInTheKernel() throws {
        let network = try KernelNetwork()
        try run("in the kernel", until: 110_000) {
            (500, try KernelPolicyTests.compare(rules: $0, packets: 500, network, &$1))
        }
    }
}
