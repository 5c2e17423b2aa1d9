import Documents
import Files
import Nftables
import Planning
import PluginKit
import Processes
import Ruleset
import Testing

/// What the kernel holds after our batch is what it holds after `nft -j -f` of the same plan: two networks, one listing.
@Suite struct OracleTests {
    static func load(_ contents: TableContents, table: String, _ connection: Connection) throws {
        var batch = Batch(table: table)
        batch.addTable()
        for counter in contents.counters { try batch.add(counter) }
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

    @Test func twoThousandRandomTablesAreWhatNftMakesOfThem() throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-oracle")
        defer { try? FileSystem.remove(folder) }
        var random = RandomRuleset(seed: 42)
        var rules = 0
        for round in 0..<40 {
            let tables = (0..<50).map { (name: "t\($0)", contents: random.table()) }
            rules += tables.reduce(0) { $0 + $1.contents.chains.reduce(0) { $0 + $1.rules.count } }
            let ours = try NetworkNamespace().run {
                let connection = try Connection()
                for table in tables { try Self.load(table.contents, table: table.name, connection) }
                return try Self.listing()
            }
            let items = tables.flatMap { $0.contents.document(table: $0.name)["nftables"]?.list ?? [] }
            let path = "\(folder)/\(round).json"
            var text = JSON.object(["nftables": .list(items)]).line
            if !Self.nftKnowsDynamicSets { text = text.replacing("\"timeout\",\"dynamic\"", with: "\"timeout\"") }
            try FileSystem.replace(path, with: text)
            let theirs = try NetworkNamespace().run {
                try Command("nft", ["-j", "-f", path]).check()
                return try Self.listing()
            }
            for (mine, other) in zip(ours, theirs) where mine != other {
                Issue.record("round \(round):\nours   \(mine)\ntheirs \(other)")
                return
            }
            #expect(ours.count == theirs.count)
        }
        print("the oracle compared 2000 tables with \(rules) rules")
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
            var contents = TablePlan(resources).contents
            // What another plugin brings is brought here, empty.
            let text = lines.joined()
            for zone in ["wan", "lan", "guest"]
            where text.contains("@network.zone-\(zone)")
                && !contents.sets.contains(where: { $0.name == "network.zone-\(zone)" })
            {
                contents.sets.append(NamedSet("network.zone-\(zone)", key: [.interfaceName]))
            }
            let ours = try NetworkNamespace().run {
                try Self.load(contents, table: PacketPath.table, try Connection())
                return try Self.listing()
            }
            let file = "/tmp/vcpe-golden.json"
            try FileSystem.replace(file, with: contents.document(table: PacketPath.table).line)
            let theirs = try NetworkNamespace().run {
                try Command("nft", ["-j", "-f", file]).check()
                return try Self.listing()
            }
            #expect(ours == theirs, "\(path)")
            compared += 1
        }
        #expect(compared >= 8)
        print("the oracle compared \(compared) golden plans")
    }
}
