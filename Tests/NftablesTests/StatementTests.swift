import Documents
import Files
@testable import Nftables
@testable import Planning
import Processes
@testable import Ruleset
import TestSupport
import Testing

/// Each kind of statement by itself: what the kernel holds of it beside what nft makes of the same
/// JSON.
@Suite struct StatementTests {
    @Test(arguments: StatementCase.all)
    func theKernelHoldsWhatNftMakesOfIt(_ item: StatementCase) throws {
        let contents = try item.table()
        let ours = try NetworkNamespace().run {
            try OracleTests.load(contents, table: "t", try Connection())
            return try OracleTests.listing()
        }
        let theirs = try OracleTests.theirs(contents.document(table: "t").line)
        let differing = zip(ours, theirs).first { $0 != $1 }
        #expect(ours == theirs, "\(differing.map { "ours \($0.0)\ntheirs \($0.1)" } ?? "")")
    }

    /// Where the kernel has no queues, what would be sent is compared with what nft would send.
    @Test(arguments: StatementCase.queues)
    func queuesAreWhatNftMakesOfThem(_ item: StatementCase) throws {
        var contents = try item.table()
        // Older releases of nft refuse flags of sets that no queue needs.
        contents.sets = []
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-oracle")
        defer { try? FileSystem.remove(folder) }
        try FileSystem.replace("\(folder)/document.json", with: contents.document(table: "t").line)
        let (lines, isThere) = try NetworkNamespace().run {
            let result = try Command("nft", ["--debug=netlink", "-j", "-f", "\(folder)/document.json"]).run()
            return (result.text.split(separator: "\n").map { $0.drop { $0 == " " } }, result.status == 0)
        }
        let theirs = lines.filter { $0.hasPrefix("[") }.map { String($0.dropFirst(2).dropLast(2)) }
        let ours = try item.rule().instructions(in: .inet)
        #expect(ours == theirs, "ours \(ours)\ntheirs \(theirs)")
        guard isThere else {
            print(
                "NOT LOADED: this kernel has no queue statement (CONFIG_NFT_QUEUE); \(item.name): instructions compared"
            )
            return
        }
        try theKernelHoldsWhatNftMakesOfIt(item)
    }

    /// A kind without one of its three files would be refused, or met by no packet.
    @Test func everyKindHasItsThreeFiles() {
        for type in StatementTypes.all {
            let isLowered = type is any LoweredStatement.Type
            let isWalked = type is any WalkedStatement.Type
            #expect(isLowered, "\(type) has no expressions")
            #expect(isWalked, "\(type) is met by no packet")
        }
        // What is read by a name is the kind that has it.
        let names = StatementTypes.all.flatMap { $0.names }
        #expect(Set(names).count == names.count)
    }

    @Test(arguments: [
        (Statement.tproxy(.ip, address: "127.0.0.1", port: 1), "tproxy needs a match of tcp or udp before it"),
        (.duplicate(to: .link("lo")), "dup to a link in a table of the family inet: netdev is allowed"),
        (.forward(to: "lo"), "fwd in a table of the family inet: netdev is allowed"),
        (.mangle(.payload(.ip, "dscp"), .number(64)), "64 does not fit dscp: 0 to 63"),
        (.mangle(.meta(.priority), .text("1:10000")), "\"1:10000\" is no classid"),
        (.mangle(.zone(nil), .number(65536)), "65536 does not fit integer"),
        (.mangle(.meta(.mark), .map(.payload(.ip, "saddr"), "none")), "a look-up in none"),
        (.match(.payload(.ip, "dscp"), .equal, .named("s")), "in the set s: list its values"),
        (.match(.meta(.mark), .equal, .range(.number(2), .number(1))), "ends before it begins"),
    ])
    func whatTheKernelLacksIsSaidBeforeItIsAsked(statement: Statement, message: String) {
        var batch = Batch(table: "t")
        #expect { try batch.add(Rule([statement], comment: "x: rules[0]"), to: "c") } throws: {
            "\($0)".hasPrefix("a rule of chain c (x: rules[0]): ") && "\($0)".contains(message)
        }
    }

    /// libnftnl without memory leaves a message out: the rest must not take effect without it.
    @Test func anIncompleteBatchIsNeverSent() throws {
        try NetworkNamespace().run {
            let connection = try Connection()
            var batch = Batch(table: "t")
            batch.addTable()
            batch.miss("set s")
            #expect { try connection.commit(batch) } throws: {
                "\($0)" == "set s: Cannot allocate memory (12): libnftnl could not allocate it"
            }
            #expect { try batch.add(Chain("c")) } throws: { "\($0)" == "set s: no memory is left" }
            #expect(try Command("nft", ["list", "ruleset"]).check().text == "")
        }
    }
}
