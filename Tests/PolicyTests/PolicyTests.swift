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
        for round in 0..<60 {
            let rules = [1, 2, 3, 5, 8, 13, 21, 40, 80, 200][round % 10]
            let (count, difference) = try Self.compare(rules: rules, packets: 200, &random)
            compared += count
            if let difference {
                Issue.record("round \(round): \(difference)")
                return
            }
        }
        print("\(compared) packets through 60 compiled policies: as written")
    }
}
