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
}
