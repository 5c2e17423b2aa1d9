import Documents
import Files
import Glibc
@testable import ImageBuilder
import PluginKit
import Processes
import TestSupport
import Testing

/// Rules that end by themselves.
@Suite(.serialized) struct TimeTests {
    private func site(until seconds: Int) -> String {
        var time = time_t(seconds)
        var parts = tm()
        gmtime_r(&time, &parts)
        var buffer = [CChar](repeating: 0, count: 40)
        strftime(&buffer, buffer.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
        let text = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return BoxInNetwork.site.editing(
            "  rules:\n",
            with: "  rules:\n    - {name: trial, from: wan, to: lan, action: accept, until: \"\(text)\"}\n")
    }

    @Test func aRuleWithAnEndGoesByItself() throws {
        let box = try BoxInNetwork.ready()
        #expect(try box.apply(site(until: time(nil) + 4)) == nil)
        let proof = try #require(try PacketTests.proofs().first { $0.name == "WAN to LAN by UDP is dropped" })
        #expect(try box.decided().contains("firewall: rules[trial]"))
        let end = Clock.seconds + 8
        while Clock.seconds < end, try box.decided().contains("rules[trial]") { usleep(50_000) }
        #expect(try !box.decided().contains("rules[trial]"), "\(box.log)")
        #expect(try box.probing().run(proof).passed)
        // It makes no history, and an engine that comes later leaves it out, too.
        #expect(try box.ask("history")["commits"]?.list?.count == 1)
        box.killEngine()
        try box.start()
        #expect(try !box.decided().contains("rules[trial]") && box.decided().contains("rules[lan-to-box]"))
    }

    /// A box whose clock starts in the past knows the time that it has seen before.
    @Test func aClockThatIsWrongBringsNothingBack() throws {
        let box = try BoxInNetwork.ready()
        #expect(try box.apply(site(until: time(nil) + 3600)) == nil)
        #expect(try box.decided().contains("rules[trial]"))
        box.killEngine()
        // As if the box had been on until tomorrow, and its battery were empty now.
        try FileSystem.replace("\(box.folder)/data/vcpe/clock", with: "\(time(nil) + 86_400)\n")
        try box.start()
        #expect(try !box.decided().contains("rules[trial]"), "\(box.log)")
    }
}
