import Documents
import Files
import Nftables
import Planning
import PluginKit
import Processes
import Ruleset
import TestSupport
import Testing

/// What the kernel holds after our batch is what it holds after `nft -j -f` of the same plan: two networks, one listing.
@Suite struct OracleTests {
    static func load(_ contents: TableContents, table: String, _ connection: Connection) throws {
        var batch = Batch(table: table, family: contents.family)
        batch.addTable()
        for counter in contents.counters { try batch.add(counter) }
        for helper in contents.helpers { try batch.add(helper) }
        for chain in contents.chains { try batch.add(Chain(chain.name, hook: chain.hook)) }
        for set in contents.sets { try batch.add(set) }
        for chain in contents.chains { for rule in chain.rules { try batch.add(rule, to: chain.name) } }
        try connection.commit(batch)
    }

    /// nft before 1.0.8 reads no such flag, and finds out for itself that a set is dynamic.
    static let nftKnowsDynamicSets: Bool = {
        let version = (try? Command("nft", ["--version"]).run().text) ?? ""
        return !["v1.0.6", "v1.0.7"].contains { version.contains($0) }
    }()

    static let nftFillsMaps: Bool = {
        let version = (try? Command("nft", ["--version"]).run().text) ?? ""
        return !version.contains("v1.0")
    }()

    /// nft's listing in pieces, without handles.
    static func listing() throws -> [String] {
        try Command("nft", ["-j", "list", "ruleset"]).check().text.replacing("{\"", with: "\n{\"").split(
            separator: "\n"
        )
        .map { line in
            guard let handle = line.firstRange(of: "\"handle\": ") else { return String(line) }
            return line[..<handle.lowerBound] + String(line[handle.upperBound...].drop { $0.isNumber })
        }
    }

    @Test func fiveHundredRandomTablesAreWhatNftMakesOfThem() throws {
        var random = RandomRuleset(seed: 42, fillsMaps: Self.nftFillsMaps)
        var rules = 0
        for round in 0..<10 {
            let (count, difference) = try Self.compareFifty(&random)
            rules += count
            if let difference {
                Issue.record("round \(round):\n\(difference)")
                return
            }
        }
        print("the oracle compared 500 tables with \(rules) rules")
    }

    /// - Returns: how many rules fifty tables had, and the first difference between the two listings.
    static func compareFifty(_ random: inout RandomRuleset) throws -> (rules: Int, difference: String?) {
        let tables = (0..<50).map { (name: "t\($0)", contents: random.table()) }
        let rules = tables.reduce(0) { $0 + $1.contents.chains.reduce(0) { $0 + $1.rules.count } }
        let ours = try NetworkNamespace().run {
            let connection = try Connection()
            for table in tables { try load(table.contents, table: table.name, connection) }
            return try listing()
        }
        let items = tables.flatMap { $0.contents.document(table: $0.name)["nftables"]?.list ?? [] }
        let text = JSON.object(["nftables": .list(items)]).line
        let theirs = try theirs(text)
        if let place = zip(ours, theirs).enumerated().first(where: { $0.element.0 != $0.element.1 })?.offset {
            let before = ours[max(0, place - 8)..<place].joined()
            let (mine, other) = (ours[place...].prefix(8).joined(), theirs[place...].prefix(8).joined())
            return (rules, "\(before)\nours   \(mine)\ntheirs \(other)")
        }
        return (rules, ours.count == theirs.count ? nil : "\(ours.count) lines, theirs \(theirs.count)")
    }

    /// What `nft -j -f` makes of a document.
    static func theirs(_ document: String) throws -> [String] {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-oracle")
        defer { try? FileSystem.remove(folder) }
        var text = document
        if !nftKnowsDynamicSets {
            text = text.replacing("\"timeout\",\"dynamic\"", with: "\"timeout\"").replacing(
                "\"flags\":[\"dynamic\"],", with: "")
        }
        try FileSystem.replace("\(folder)/document.json", with: text)
        return try NetworkNamespace().run {
            try Command("nft", ["-j", "-f", "\(folder)/document.json"]).check()
            return try listing()
        }
    }

    /// The plans that stand as golden cases beside the plugins, each with the skeleton around it.
    @Test func goldenPlansAreWhatNftMakesOfThem() throws {
        let folder = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/") + "/Sources/Plugins"
        let plans = try Command("find", [folder, "-name", "*.plan"]).check().text.split(separator: "\n").map(
            String.init)
        var compared = 0
        for path in plans.sorted() {
            let lines = String(decoding: try FileSystem.read(path), as: UTF8.self).split(separator: "\n")
            let resources = try lines.filter { $0.contains("\"nftables\"") }.map {
                try Resource(try JSON.parse($0.utf8))
            }
            if resources.isEmpty { continue }
            // Maps to ranges are beyond nft's JSON, and its older versions know no rules that fill maps.
            if lines.contains(where: { $0.contains("\"interval\",\"ipv4_addr\"") }) { continue }
            var contents = TablePlan(resources.of(NftablesResource.self)).withLinks { _ in false }.with(flowtable: nil)
                .contents
            // What another plugin brings is brought here, empty.
            let text = lines.joined()
            for zone in ["wan", "lan", "guest", "access"]
            where text.contains("@network.zone-\(zone)")
                && !contents.sets.contains(where: { $0.name == "network.zone-\(zone)" })
            {
                contents.sets.append(NamedSet("network.zone-\(zone)", key: [.interfaceName]))
            }
            let ours = try NetworkNamespace().run {
                try Self.load(contents, table: PacketPath.table, try Connection())
                return try Self.listing()
            }
            let theirs = try Self.theirs(contents.document(table: PacketPath.table).line)
            let differing = zip(ours, theirs).first { $0 != $1 }
            #expect(ours == theirs, "\(path): \(differing.map { "\($0.0) and \($0.1)" } ?? "")")
            compared += 1
        }
        #expect(compared >= 8)
        print("the oracle compared \(compared) golden plans")
    }
}

/// The same with tables without end.
@Suite(.serialized) struct OracleTorture {
    @Test func randomTables() throws {
        var random = RandomRuleset(seed: Torture.seed)
        var (rules, failed) = (0, 0)
        for _ in 0..<400 {
            let (count, difference) = try OracleTests.compareFifty(&random)
            rules += count
            if let difference {
                failed += 1
                Issue.record("\(difference)")
            }
        }
        try Torture.note("rules of random tables against nft", checked: rules, failed: failed)
    }
}
