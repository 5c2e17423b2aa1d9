@testable import Engine
import Files
import Glibc
import Planning
@testable import PluginKit
import Processes
import Testing

/// Sets whose elements travel in parts.
@Suite struct LargeSetTests {
    /// A plan with a set of hosts.
    private func plan(_ hosts: some Sequence<Int>) throws -> TablePlan {
        var output = PlanOutput()
        let elements = hosts.map { SetElement(.text("10.0.\($0 / 256).\($0 % 256)")) }
        output.add(set: NamedSet("test.hosts", key: [.ipv4Address], elements: elements))
        return TablePlan(try output.lines.map { try Resource(JSON.parse($0)) }.of(NftablesResource.self))
    }

    private func held() throws -> Int {
        try Command("nft", ["list", "set", "inet", PacketPath.table, "test.hosts"]).check().text
            .split { !$0.isNumber && $0 != "." }.filter { $0.hasPrefix("10.0.") }.count
    }

    /// Lines of kinds that a plan has many of take no detour by values of JSON, and are the same.
    @Test func aLineIsThatOfItsValue() throws {
        func part(_ content: NamedSet.Content, _ elements: [SetElement]) -> NftablesResource {
            let set = NamedSet("test.a \"set\"", key: [.ipv4Address], content: content)
            return .elements(SetPart(of: set, part: "1 of 2", elements))
        }
        let pair = Expression.concatenation([.text("10.0.0.1"), .number(-7), .prefix("10.0.0.0", 8)])
        let keys: [Expression] = [pair, .text("é\n"), .range(.number(1), .number(2)), .number(.max)]
        let verdicts: [Verdict] = [.accept, .drop, .return, .jump("test.a"), .goto("test.b")]
        let resources: [NftablesResource] = [
            .counter(NamedCounter("test.a")), .counter(NamedCounter("test.a", comment: "test: \"a\"")),
            part(.members, keys.map { SetElement($0) } + [SetElement(pair, timeout: 5)]), part(.members, []),
            part(.verdicts, keys.flatMap { key in verdicts.map { SetElement(key, verdict: $0) } }),
            part(.counters, keys.map { SetElement($0, .counter("test.a")) }),
            part(.values([.mark, .mark]), keys.map { SetElement($0, .data(pair), timeout: 5) }),
            part(.ranges([.ipv4Address]), keys.map { SetElement($0, .data(.range(.text("a"), .text("b")))) }),
        ]
        for resource in resources.map({ Resource($0) }) {
            for path in [nil, "sets[a\"b]"] {
                var entries = try #require(resource.json.object)
                entries["at"] = path.map { .text($0) }
                #expect(Array(resource.line(at: path).utf8) == Array(JSON.object(entries).line.utf8))
            }
        }
    }

    /// A change brings the kernel's set to what a load from nothing makes of it, whether it has parts or not.
    @Test func aLargeSetFollowsItsPlan() throws {
        let steps = [Array(0..<2000), Array(1..<2001), Array(0..<300), Array(200..<5000), [], Array(0..<513)]
        #expect(try plan(steps[0]).parts["test.hosts"]?.count == 16 && plan(steps[2]).parts.isEmpty)
        try NetworkNamespace().run {
            let driver = try FilterTable()
            for hosts in steps {
                try driver.apply(plan(hosts))
                #expect(try held() == hosts.count)
            }
        }
    }

    /// An engine that was killed leaves a child now and then that holds on to the table for a moment; nft does here.
    @Test func aTableWhoseOwnerIsAboutToGoIsTakenOver() throws {
        try NetworkNamespace().run {
            let owner = try Command(
                "sh", ["-c", "(echo 'add table inet \(PacketPath.table) { flags owner; }'; sleep 1) | nft -i"]
            ).start(output: File("/dev/null", O_WRONLY))
            defer { owner.kill() }
            let list = Command("nft", ["list", "tables"])
            for _ in 0..<100 where try !list.check().text.contains(PacketPath.table) { usleep(10_000) }
            try FilterTable().apply(plan(0..<3))
            #expect(try held() == 3)
        }
    }

    @Test func aChangeOfOneElementTouchesOnePart() throws {
        let (before, after) = (
            try plan(0..<2000).parts["test.hosts"] ?? [:], try plan(1..<2001).parts["test.hosts"] ?? [:]
        )
        #expect(before.filter { after[$0.key] != $0.value }.count <= 2)
    }
}
