import Documents
import Testing

/// Documents that come back with masks in the places of their secrets.
@Suite struct MaskingTests {
    private static func read(_ text: String) throws -> Node { try YAML.read(Array(text.utf8), file: "site") }

    private static let old = """
        tunnels:
          - {from: lan, to: paris, psk: one}
          - {from: lan, to: rome, psk: two}
          - {from: dmz, to: rome, psk: three}

        """

    private func secrets(_ given: String) throws -> [String] {
        try Self.read(given).unmasked(by: Self.read(Self.old)).secretTexts
    }

    /// Several items may have the same first value: of a list with two keys.
    @Test func masksAreThoseOfTheSameItem() throws {
        let shown = try Self.read(Self.old).masked.yaml
        #expect(try secrets(shown) == ["one", "two", "three"])
        #expect(try secrets("tunnels:\n  - {from: lan, to: rome, psk: \"********\"}\n") == ["two"])
        #expect(try secrets("tunnels:\n  - {from: dmz, to: oslo, psk: \"********\"}\n") == ["three"])
    }

    /// Which secret is meant is not guessed: the mask stays, and is refused.
    @Test func aMaskOfOneOfSeveralItemsStays() throws {
        let given = "tunnels:\n  - {from: lan, to: oslo, psk: \"********\"}\n"
        #expect(try secrets(given) == [Node.mask])
        #expect(try Self.read(given).unmasked(by: Self.read(Self.old)).firstMask != nil)
    }

    /// Of two items that differ in their secret alone, neither is taken for the other.
    @Test func aMaskOfItemsThatAreOtherwiseTheSameStays() throws {
        let old = try Self.read("tunnels:\n  - {to: rome, psk: one}\n  - {to: rome, psk: two}\n")
        #expect(old.masked.unmasked(by: old).secretTexts == [Node.mask, Node.mask])
        // An item that comes without a mask needs none of the known ones.
        let given = try Self.read("tunnels:\n  - {to: rome, psk: three}\n")
        #expect(given.unmasked(by: old).secretTexts == ["three"])
    }

    /// The engine's loop waits for it: the time must not grow with the square of the items.
    @Test func manyItemsOfOneNameAreQuick() throws {
        let items = (0..<600).map { "  - {from: lan, to: t\($0), psk: \"secret \($0)\"}\n" }
        let old = try Self.read("tunnels:\n" + items.joined())
        let shown = old.masked
        var unmasked: Node?
        let time = ContinuousClock().measure { unmasked = shown.unmasked(by: old) }
        #expect(unmasked?.canonical == old.canonical)
        #expect(time < .seconds(2), "\(time)")
    }

    /// Each level of a document is searched once.
    @Test func masksInDeepDocumentsAreFoundQuickly() throws {
        let depth = 18
        let text = String(repeating: "[", count: depth) + "\"\(Node.mask)\"" + String(repeating: "]", count: depth)
        let node = try Self.read("a: \(text)\n")
        var found: Node?
        let time = ContinuousClock().measure { found = node.firstMask }
        #expect(found?.position.column == 4 + depth)
        #expect(time < .milliseconds(200), "\(time)")
    }
}
