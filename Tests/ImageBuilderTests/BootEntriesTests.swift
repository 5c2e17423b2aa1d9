@testable import ImageBuilder
import Testing

/// The boot menu as the firmware's programs read it.
@Suite struct BootEntriesTests {
    @Test func theWayBackToTheFactoryIsThereUnlessItIsSwitchedOff() {
        let both = BootEntries(commandLine: "quiet", hasFactoryReset: true).sections
        #expect(both.map(\.name) == [".profile", ".cmdline", ".profile", ".cmdline"])
        #expect(
            both.map { String(decoding: $0.bytes, as: UTF8.self) }.filter { $0.contains("quiet") } == [
                "quiet", "vcpe.factory-reset quiet",
            ])
        #expect(BootEntries.files(hasFactoryReset: true).map(\.path).contains("loader/entries/factory-reset.conf"))
        let one = BootEntries(commandLine: "quiet", hasFactoryReset: false).sections
        #expect(one.map(\.name) == [".cmdline"] && one[0].bytes == Array("quiet".utf8))
        #expect(!BootEntries.files(hasFactoryReset: false).contains { $0.path.hasPrefix("loader/entries/") })
    }
}
