import Documents
@testable import Engine
import PluginKit
import Schema
import Testing

/// Edits of a plugin's command reach the items of one owner's document that the merged document
/// shows.
@Suite struct PluginEditsTests {
    private static let schema = Schema(modules: [
        """
        module nat {
          prefix n;
          container nat {
            list masquerade {
              key "from to";
              leaf from { type string; }
              leaf to { type string; }
              leaf log { type boolean; }
            }
            list forwards { key name; leaf name { type string; } leaf port { type uint16; } }
          }
        }
        """
    ])

    private static let provider = """
        nat:
          masquerade:
            - {from: lan, to: wan, log: true}
            - {from: lan, to: dsl}
          forwards: [{name: web, port: 80}]

        """

    private static let customer = """
        nat:
          masquerade:
            - {from: lan, to: lte}
            - {from: lan, to: vpn}
          forwards: [{name: camera, port: 81}]

        """

    private static func read(_ text: String, _ file: String) throws -> Node {
        try YAML.read(Array(text.utf8), file: file)
    }

    private static func edits(of owner: SiteDocument, customer: String = customer) throws -> PluginEdits {
        let (upper, lower) = (try read(provider, "provider"), try read(customer, "customer"))
        let merged = MergedDocument(upper, below: [lower], keys: ["nat"]) { schema }
        return PluginEdits(of: owner == .provider ? upper : lower, site: merged.node, owner: owner) { schema }
    }

    private static func path(_ text: String) throws -> DocumentPath { try DocumentPath(text) }

    private static func node(_ json: JSON) -> Node { Node(json, position: .init(file: "command", line: 1, column: 1)) }

    /// `from: lan` alone tells four items of the merged list from none.
    @Test func itemsAreFoundByAllTheirKeys() throws {
        var edits = try Self.edits(of: .customer)
        try edits.set(Self.node(true), at: Self.path("nat.masquerade[3].log"))
        #expect(
            JSON(edits.document)["nat"]?["masquerade"] == [
                ["from": "lan", "to": "lte"], ["from": "lan", "log": true, "to": "vpn"],
            ])
        try edits.remove(at: Self.path("nat.masquerade[2]"))
        #expect(JSON(edits.document)["nat"]?["masquerade"] == [["from": "lan", "log": true, "to": "vpn"]])
        var providers = try Self.edits(of: .provider)
        try providers.remove(at: Self.path("nat.masquerade[1]"))
        #expect(JSON(providers.document)["nat"]?["masquerade"] == [["from": "lan", "log": true, "to": "wan"]])
    }

    /// An edit of an item that only the other owner has adds an item with its keys.
    @Test func anItemOfTheOtherOwnerIsAddedWithItsKeys() throws {
        var edits = try Self.edits(of: .customer)
        try edits.set(Self.node(true), at: Self.path("nat.masquerade[1].log"))
        try edits.set(Self.node(8080), at: Self.path("nat.forwards[0].port"))
        let nat = JSON(edits.document)["nat"]
        #expect(nat?["masquerade"]?.list?.last == ["from": "lan", "log": true, "to": "dsl"])
        #expect(nat?["masquerade"]?.list?.count == 3)
        #expect(nat?["forwards"]?.list?.last == ["name": "web", "port": 8080])
        var others = try Self.edits(of: .customer)
        for path in ["nat.masquerade[0]", "nat.masquerade[1].to", "nat.forwards[web]"] {
            #expect(throws: EngineError.self) { try others.remove(at: Self.path(path)) }
        }
        #expect(!others.isChanged)
    }

    @Test func insertionsCountTheOwnItemsBefore() throws {
        var edits = try Self.edits(of: .customer)
        try edits.insert(Self.node(["from": "lan", "to": "new"]), at: 3, of: Self.path("nat.masquerade"))
        let targets = JSON(edits.document)["nat"]?["masquerade"]?.list?.compactMap { $0["to"]?.text }
        #expect(targets == ["lte", "new", "vpn"])
        // Between the documents' items, and in front of all.
        try edits.insert(Self.node(["name": "first"]), at: 0, of: Self.path("nat.forwards"))
        #expect(JSON(edits.document)["nat"]?["forwards"]?.list?.first == ["name": "first"])
    }

    /// The upper document's items come before those that only the lower one has.
    @Test func anItemThatComesBehindTheUpperDocumentsIsWarnedOf() throws {
        var edits = try Self.edits(of: .customer)
        try edits.insert(Self.node(["from": "lan", "to": "new"]), at: 2, of: Self.path("nat.masquerade"))
        #expect(edits.warnings == [])
        try edits.insert(Self.node(["from": "lan", "to": "first"]), at: 1, of: Self.path("nat.masquerade"))
        #expect(edits.warnings.count == 1 && edits.warnings.allSatisfy { $0.contains("provider:4:7") })
        try edits.insert(Self.node(["name": "first"]), at: 0, of: Self.path("nat.forwards"))
        #expect(edits.warnings.count == 2 && edits.warnings.last?.contains("nat.forwards[first]") == true)
        #expect(edits.warnings.last?.contains("provider:5:14") == true, "\(edits.warnings)")
        var provider = try Self.edits(of: .provider)
        try provider.insert(Self.node(["name": "first"]), at: 0, of: Self.path("nat.forwards"))
        #expect(provider.warnings == [])
    }
}
