@testable import Engine
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
        return TablePlan(try output.lines.map { try Resource(JSON.parse($0)) })
    }

    private func held() throws -> Int {
        try Command("nft", ["list", "set", "inet", PacketPath.table, "test.hosts"]).check().text
            .split { !$0.isNumber && $0 != "." }.filter { $0.hasPrefix("10.0.") }.count
    }

    /// A change brings the kernel's set to what a load from nothing makes of it, whether it has parts or not.
    @Test func aLargeSetFollowsItsPlan() throws {
        let steps = [Array(0..<2000), Array(1..<2001), Array(0..<300), Array(200..<5000), [], Array(0..<513)]
        #expect(try plan(steps[0]).parts["test.hosts"]?.count == 16 && plan(steps[2]).parts.isEmpty)
        try NetworkNamespace().run {
            let driver = try NftablesDriver()
            for hosts in steps {
                try driver.apply(plan(hosts))
                #expect(try held() == hosts.count)
            }
        }
    }

    @Test func aChangeOfOneElementTouchesOnePart() throws {
        let (before, after) = (
            try plan(0..<2000).parts["test.hosts"] ?? [:], try plan(1..<2001).parts["test.hosts"] ?? [:]
        )
        #expect(before.filter { after[$0.key] != $0.value }.count <= 2)
    }
}
