@testable import Engine
import Testing

@Suite struct UniqueLocalPrefixTests {
    private static let id = "0123456789abcdef0123456789abcdef"

    /// By another program: `printf 'vcpe unique-local\0\x01\x23…' | sha256sum`. An upgrade must not
    /// change it.
    @Test func aMachineIDHasOnePrefix() {
        #expect(UniqueLocalPrefix.of(machineID: Self.id)?.description == "fdeb:1aa9:9717::/48")
        let other = UniqueLocalPrefix.of(machineID: "0123456789abcdef0123456789abcdee")
        #expect(other != nil && other != UniqueLocalPrefix.of(machineID: Self.id))
    }

    @Test(arguments: ["", "0123", String(repeating: "x", count: 32), id + "00"])
    func whatIsNoMachineIDHasNone(_ text: String) {
        #expect(UniqueLocalPrefix.of(machineID: text) == nil)
    }
}
