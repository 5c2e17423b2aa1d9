import Documents
import Glibc
import Nftables
import Processes
import Ruleset
import TestSupport
import Testing

@Suite struct BatchTests {
    let network: NetworkNamespace

    init() throws { network = try NetworkNamespace() }

    private func listing() throws -> String { try Command("nft", ["list", "ruleset"]).check().text }

    private func table(_ rules: [Rule]) throws -> Batch {
        var batch = Batch(table: "t")
        batch.addTable()
        try batch.replace(Chain("c", rules: rules))
        return batch
    }

    @Test func dryRunIsCheckedByTheKernelAndChangesNothing() throws {
        try network.run {
            let connection = try Connection()
            try connection.check(try table([Rule([.verdict(.accept)])]))
            #expect(try listing() == "")
            #expect(throws: NftablesError.self) {
                try connection.check(try table([Rule([.verdict(.jump("nowhere"))])]))
            }
        }
    }

    @Test func everyRefusalNamesItsObjectAndWhoWantedIt() throws {
        try network.run {
            let connection = try Connection()
            let batch = try table([
                Rule([.verdict(.jump("nowhere"))], comment: "firewall: rules[1]"), Rule([.verdict(.accept)]),
                Rule([.counter("none")], comment: "nat: forwards[2]"),
            ])
            #expect { try connection.commit(batch) } throws: { error in
                let refusals = (error as? NftablesError)?.refusals ?? []
                return refusals.map(\.subject) == [
                    "a rule of chain c (firewall: rules[1])", "a rule of chain c (nat: forwards[2])",
                ] && refusals.allSatisfy { $0.code == ENOENT }
            }
            // Nothing of it took effect.
            #expect(try listing() == "")
        }
    }

    @Test func foreignChangeInBetweenIsNoticed() throws {
        try network.run {
            let connection = try Connection()
            let generation = try connection.generation()
            try Command("nft", ["add", "table", "inet", "other"]).check()
            #expect { try connection.commit(try table([]), expecting: generation) } throws: {
                ($0 as? NftablesError)?.isStale == true
            }
            #expect(try !listing().contains("table inet t"))
            try connection.commit(try table([]), expecting: connection.generation())
            #expect(try listing().contains("table inet t"))
        }
    }

    @Test func tenThousandElementsAndRulesFitOneBatch() throws {
        try network.run {
            let connection = try Connection()
            var batch = Batch(table: "t")
            batch.addTable()
            let elements = (0..<10_000).map { SetElement(.text("10.\($0 >> 8 & 255).\($0 & 255).1")) }
            let set = NamedSet("s", key: [.ipv4Address], elements: elements)
            try batch.add(set)
            try batch.replace(
                Chain(
                    "c",
                    rules: (0..<5000).map {
                        Rule([.match(.payload(.tcp, "dport"), .equal, .number(1 + $0)), .verdict(.accept)])
                    }))
            try connection.commit(batch)
            // A listing right behind so many has left one out, once, on a slow machine; a later one must not.
            #expect(
                try Wait.until(10) {
                    let text = try listing()
                    return text.contains("10.39.15.1") && text.contains("tcp dport 5000 accept")
                })
            // Only what changes travels.
            var change = Batch(table: "t")
            try change.delete(Array(elements[..<5]), from: set)
            try change.add([SetElement(.text("192.0.2.1"))], to: set)
            try connection.commit(change)
            let after = try listing()
            #expect(!after.contains("10.0.4.1,") && after.contains("192.0.2.1") && after.contains("10.0.5.1"))
        }
    }

    @Test func countersKeepTheirCountWhenTheirChainIsRefilled() throws {
        try network.run {
            let connection = try Connection()
            var batch = Batch(table: "t")
            batch.addTable()
            try batch.add(NamedCounter("seen", comment: "firewall: rules[0]"))
            let chain = Chain(
                "output", hook: Hook(.filter, .output, priority: 0),
                rules: [Rule([.counter("seen"), .verdict(.accept)])])
            try batch.replace(chain)
            try connection.commit(batch)
            try Command("ping", ["-c", "3", "-i", "0.01", "127.0.0.1"]).check()
            let before = try #require(connection.counters(table: "t")["seen"])
            #expect(before.packets == 6)
            var again = Batch(table: "t")
            try again.add(NamedCounter("seen"))
            try again.replace(Chain("output", hook: chain.hook, rules: chain.rules + [Rule([.verdict(.accept)])]))
            try connection.commit(again)
            #expect(try connection.counters(table: "t")["seen"] == before)
            let seen = try connection.observe(table: "t")
            #expect(seen.exists && seen.chains == ["output"] && seen.counters == ["seen"] && seen.sets == [])
        }
    }

    /// Kernels before 6.9 don't know the flag `persist`; there the table has no owner.
    @Test func theOwnersTableIsNobodyElsesAndOutlivesIt() throws {
        try network.run {
            var connection: Connection? = try Connection()
            var batch = Batch(table: "t")
            batch.addTable([.owner, .persist])
            try batch.add(Chain("c"))
            do {
                try connection?.commit(batch)
            } catch let error as NftablesError
                where error.refusals.contains(where: { $0.code == EOPNOTSUPP || $0.code == EINVAL })
            {
                print("this kernel's tables can't persist: not tested here")
                return
            }
            #expect(try Command("nft", ["add", "rule", "inet", "t", "c", "accept"]).run().status != 0)
            try Command("nft", ["flush", "ruleset"]).check()
            #expect(try listing().contains("chain c"))
            connection = nil
            #expect(try listing().contains("chain c"))
            // The next takes it over.
            let next = try Connection()
            var change = Batch(table: "t")
            change.addTable([.owner, .persist])
            try change.add(Rule([.verdict(.accept)]), to: "c")
            try next.commit(change)
            #expect(try Command("nft", ["add", "rule", "inet", "t", "c", "accept"]).run().status != 0)
        }
    }

    @Test(arguments: [
        (Statement.match(.payload(.tcp, "dport"), .equal, .text("http")), "\"http\" is no inet_service"),
        (.match(.payload(.ip, "saddr"), .equal, .text("10.0.0.300")), "\"10.0.0.300\" is no ipv4_addr"),
        (.match(.payload(.ip, "saddr"), .equal, .prefix("10.0.0.1", 8)), "has bits beyond its length"),
        (.match(.payload(.tcp, "dport"), .equal, .range(.number(90), .number(80))), "ends before it begins"),
        (
            .match(.meta(.mark), .equal, .set([.range(.number(1), .number(2)), .number(9)])),
            "values are in the host's order"
        ),
        (.nat(.dnat, .ip, address: .text("10.0.0.1"), port: .number(80)), "needs a match of tcp or udp before it"),
        (.match(.payload(.th, "dport"), .equal, .number(1)), "needs a match of meta l4proto"),
    ])
    func whatCantBeIsSaidWithTheRule(statement: Statement, message: String) {
        #expect { _ = try table([Rule([statement], comment: "firewall: rules[0]")]) } throws: {
            "\($0)".contains("a rule of chain c (firewall: rules[0]): ") && "\($0)".contains(message)
        }
    }

    @Test(arguments: [
        (#"{"quota":{"val":1}}"#, "the statement \"quota\""), (#"{"counter":null}"#, "an anonymous counter"),
        (#"{"match":{"op":"==","left":{"meta":{"key":"cpu"}},"right":1}}"#, "meta cpu"),
        (#"{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"x"}},"right":1}}"#, "this field of tcp"),
        (#"{"limit":{"rate":1,"per":"year"}}"#, "this limit"), (#"{"accept":null,"drop":null}"#, "this statement"),
        (#"{"log":{"prefix":"x","flags":"all"}}"#, "a log with"),
        (#"{"masquerade":{"flags":"random"}}"#, "masquerade with"),
    ])
    func whatTheModelLacksIsNamed(text: String, message: String) throws {
        #expect { _ = try Statement(try .parse(text)) } throws: {
            "\($0)".hasPrefix(message) && "\($0)".contains("is not supported: {")
        }
    }
}
