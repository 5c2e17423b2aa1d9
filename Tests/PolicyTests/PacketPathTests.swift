@testable import Engine
import Planning
import PluginKit
import Processes
import Testing

/// The base chains that a plan needs, and no others.
@Suite struct PacketPathTests {
    private static func chain(_ name: String, _ stage: Stage, rules: [Rule]) -> NftablesResource {
        .chain(Chain(name, rules: rules), stage: .init(stage, order: 100))
    }

    private static let masquerade = chain("test.out", .snat, rules: [Rule([.masquerade])])

    @Test func anEmptyStageHasNoChain() {
        let empty = TablePlan()
        #expect(Set(empty.chains.keys) == ["input", "forward"])
        #expect(empty.chains.values.allSatisfy { $0.hook?.policy == .drop })
        let idle = TablePlan([Self.chain("test.idle", .defend, rules: [])])
        #expect(Set(idle.chains.keys) == ["input", "forward", "test.idle"])
        #expect(idle.chains["forward"] == empty.chains["forward"])
    }

    /// Chains of a stage are called in their order, at the stage's place.
    @Test func stagesAreCalledInTheirPlaces() {
        let drop = [Rule([.verdict(.drop)])]
        let plan = TablePlan([
            .chain(Chain("test.late", rules: drop), stage: .init(.forward, order: 200)),
            .chain(Chain("test.early", rules: drop), stage: .init(.forward, order: 100)),
            Self.chain("test.guard", .forwardGuard, rules: drop), Self.chain("test.out", .shape, rules: drop),
        ])
        let calls = (plan.chains["forward"]?.rules ?? []).map { rule -> String in
            if case .verdict(let verdict)? = rule.statements.first { verdict.target ?? "" } else { "established" }
        }
        #expect(calls == ["test.guard", "established", "test.early", "test.late"])
        #expect(plan.chains["postrouting-mangle"]?.rules.count == 1)
    }

    /// The kernel translates packets of connections that have begun only while a base chain of
    /// translations is there.
    @Test func whatTranslatesStaysForConnectionsThatHaveBegun() throws {
        func chains() throws -> Set<String> {
            let words = try Command("nft", ["list", "chains", "inet"]).check().text.split(separator: "\n")
            return Set(words.filter { $0.contains("chain ") }.map { String($0.split(separator: " ")[1]) })
        }
        try NetworkNamespace().run {
            let table = try FilterTable()
            try table.load(TablePlan())
            #expect(try chains() == ["input", "forward"])
            try table.apply(TablePlan([Self.masquerade]))
            #expect(try chains() == ["input", "forward", "postrouting-nat", "test.out"])
            for _ in 0..<2 {
                try table.apply(TablePlan())
                #expect(try chains() == ["input", "forward", "postrouting-nat"])
            }
            // All is sent anew, as after a change by another program.
            try table.load(TablePlan())
            #expect(try chains() == ["input", "forward", "postrouting-nat"])
            try table.apply(TablePlan([Self.masquerade]))
            let rules = try Command("nft", ["list", "chain", "inet", PacketPath.table, "postrouting-nat"]).check().text
            #expect(rules.contains("jump test.out"))
        }
    }
}
