import Documents
import Files
import Glibc
import Planning
import PluginKit
import TestSupport
import Testing

/// Names in plans, and what becomes of them.
@Suite final class AllocatedPlanTests {
    private let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-allocation") }

    deinit { try? FileSystem.remove(folder) }

    private static let request = AllocationRequest(
        marks: [
            "route": .shared, "hop": .shared, "color": .own(bits: 4, isSaved: true),
        ], zones: ["tenants": .count(16)], tables: ["lines": .count(4)],
        priorities: ["last": .count(10)], namespaces: ["guests"])

    private static let share: Allocation.Share = {
        let allocation = try? Allocation(of: [PluginManifest.ofTest("x", request)])
        return allocation?.share(of: "x") ?? Allocation.Share()
    }()

    private static func resolved(_ text: String) throws -> JSON {
        let json = try JSON.parse(text)
        return try Resource(json).allocated(by: share, of: "x", line: text).json
    }

    private static func rule(_ statements: String) -> String {
        #"{"kind":"nftables","id":"chain x.c","chain":{"name":"x.c","rules":[{"expr":["# + statements + "]}]}}"
    }

    private static let other = #""op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":1"#

    /// color: bits 28-31; hop: 0-7; route: 8-15.
    @Test(arguments: [
        (
            #"{"mangle":{"key":{"meta":{"key":"mark","field":"color"}},"value":5}}"#,
            #"{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"|":[{"&":[{"meta":{"key":"mark"}},268435455]},1342177280]}}}"#
        ),
        (
            #"{"mangle":{"key":{"meta":{"key":"mark","field":"route"}},"value":0}}"#,
            #"{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"&":[{"meta":{"key":"mark"}},4294902015]}}}"#
        ),
        (
            #"{"match":{"op":"!=","left":{"meta":{"key":"mark","field":"hop"}},"right":{"set":[1,2]}}}"#,
            #"{"match":{"op":"!=","left":{"&":[{"meta":{"key":"mark"}},255]},"right":{"set":[1,2]}}}"#
        ),
        (
            #"{"match":{"op":"==","left":{"ct":{"key":"mark","field":"color"}},"right":3}}"#,
            #"{"match":{"op":"==","left":{"&":[{"ct":{"key":"mark"}},4026531840]},"right":805306368}}"#
        ),
        (
            #"{"vmap":{"key":{"meta":{"key":"mark","field":"route"}},"data":{"set":[[2,{"drop":null}]]}}}"#,
            #"{"vmap":{"key":{"&":[{"meta":{"key":"mark"}},65280]},"data":{"set":[[512,{"drop":null}]]}}}"#
        ),
        (
            #"{"mangle":{"key":{"ct":{"key":"zone","dir":"original"}},"value":{"zone":{"tenants":15}}}}"#,
            #"{"mangle":{"key":{"ct":{"key":"zone","dir":"original"}},"value":16}}"#
        ),
        (
            #"{"match":{"op":"==","left":{"ct":{"key":"zone"}},"right":{"zone":{"tenants":0}}}}"#,
            #"{"match":{"op":"==","left":{"ct":{"key":"zone"}},"right":1}}"#
        ),
    ])
    func statementsGetTheirBits(written: String, wanted: String) throws {
        let found = try Self.resolved(Self.rule(written))
        let resolved = try JSON.parse(Self.rule(wanted))
        #expect(found == resolved, "\(found.line)")
    }

    @Test(arguments: [
        (
            #"{"kind":"route","id":"192.0.2.0/24 0 table lines+3","to":"192.0.2.0/24","link":"wan","metric":0,"table":{"lines":3}}"#,
            #"{"id":"192.0.2.0/24 0 table 10003","table":10003}"#
        ),
        (
            #"{"kind":"rule","id":"ipv4 last+9","family":"ipv4","priority":{"last":9},"table":{"lines":0},"mark":{"route":2,"color":1}}"#,
            #"{"id":"ipv4 10009","mark":268435968,"mask":4026597120,"priority":10009,"table":10000}"#
        ),
        (
            #"{"kind":"rule","id":"ipv6 10003","family":"ipv6","priority":10003,"table":254}"#, #"{"priority":10003}"#
        ),
        (
            #"{"kind":"link","id":"guests","name":"guests","vrf":{"table":{"lines":1}}}"#, #"{"vrf":{"table":10001}}"#
        ),
        (
            #"{"kind":"service","id":"x-d","name":"x-d","command":["/bin/d"],"network":"guests"}"#,
            #"{"network":"x-guests"}"#
        ),
    ])
    func otherKindsGetTheirNumbers(written: String, wanted: String) throws {
        let found = try Self.resolved(written)
        for (key, value) in try JSON.parse(wanted).object ?? [:] {
            #expect(found[key] == value, "\(key): \(found.line)")
        }
    }

    /// Foreign fields and numbers, and what the kernel can't mask. Each error names the manifest's line
    /// that is missing, or what is allowed.
    @Test(arguments: [
        (
            rule(#"{"mangle":{"key":{"meta":{"key":"mark","field":"class"}},"value":1}}"#),
            #"add "allocates": {"marks": {"class":"shared"}} to the manifest"#
        ),
        (
            rule(#"{"mangle":{"key":{"meta":{"key":"mark","field":"size"}},"value":1}}"#),
            #"add "allocates": {"marks": {"size":{"bits":4}}} to the manifest"#
        ),
        (rule(#"{"mangle":{"key":{"meta":{"key":"mark","field":"color"}},"value":16}}"#), "values 0 to 15, found 16"),
        (rule(#"{"mangle":{"key":{"meta":{"key":"mark"}},"value":1}}"#), "without a field"),
        (rule(##"{"mangle":{"key":{"meta":{"key":"m\u0061rk"}},"value":1}}"##), "without a field"),
        (rule(#"{"mangle":{"key":{"ct":{"key":"mark"}},"value":1}}"#), "without a field"),
        (
            rule(#"{"mangle":{"key":{"ct":{"key":"mark","field":"color"}},"value":1}}"#),
            "the engine saves it for the connection"
        ),
        (
            rule(
                #"{"mangle":{"key":{"meta":{"key":"mark","field":"hop"}},"value":{"numgen":{"mode":"inc","mod":2,"offset":0}}}}"#
            ), "masks constants alone"
        ),
        (rule(#"{"match":{"op":"==","left":{"meta":{"key":"mark"}},"right":1}}"#), "without a field"),
        (
            rule(#"{"match":{"op":"==","left":{"&":[{"ct":{"key":"mark"}},255]},"right":1}}"#), "without a field"
        ),
        (
            rule(#"{"match":{"op":"==","left":{"ct":{"key":"mark","field":"route"}},"right":1}}"#),
            "no connection has the mark field route"
        ),
        (
            rule(
                #"{"match":{"op":"==","left":{"concat":[{"meta":{"key":"mark","field":"hop"}},{"meta":{"key":"iifname"}}]},"right":"@s"}}"#
            ), "used in another place"
        ),
        (
            rule(
                #"{"set":{"op":"add","elem":{"concat":[{"meta":{"key":"mark"}},{"meta":{"key":"iifname"}}]},"set":"@x.s"}}"#
            ),
            "without a field"
        ),
        (
            rule(#"{"mangle":{"key":{"ct":{"key":"zone"}},"value":17}}"#),
            "the number 17 is none of the zones of the plugin x, which are 1 to 16"
        ),
        (
            rule(#"{"mangle":{"key":{"ct":{"key":"zone"}},"value":{"zone":{"tenants":16}}}}"#),
            "has the offsets 0 to 15, found 16"
        ),
        (
            #"{"kind":"route","id":"192.0.2.0/24 0 table 10","to":"192.0.2.0/24","link":"wan","metric":0,"table":10}"#,
            "the number 10 is none of the tables of the plugin x, which are 10000 to 10003"
        ),
        (
            #"{"kind":"rule","id":"ipv4 1000","family":"ipv4","priority":1000,"table":254}"#,
            "the number 1000 is none of the priorities"
        ),
        (
            #"{"kind":"rule","id":"ipv4 10000","family":"ipv4","priority":10000,"table":254,"mark":5,"mask":255}"#,
            "compares the mark 5 by its number"
        ),
        (
            #"{"kind":"rule","id":"ipv4 10000","family":"ipv4","priority":10000,"table":{"vrfs":0}}"#,
            #"add "allocates": {"tables": {"vrfs":1}} to the manifest"#
        ),
        (#"{"kind":"link","id":"v","name":"v","vrf":{"table":254}}"#, "the number 254 is none of the tables"),
        (
            #"{"kind":"service","id":"x-d","name":"x-d","command":["/bin/d"],"network":"other"}"#,
            #"add "allocates": {"namespaces": ["other"]} to the manifest"#
        ),
    ])
    func whatIsNotAllocatedIsRefused(written: String, part: String) throws {
        var found = "no error"
        do { _ = try Self.resolved(written) } catch { found = "\(error)" }
        #expect(found.contains(part), "\(written): \(found)")
    }

    // MARK: - Plans of programs

    /// Adds a plugin, whose plan is lines of a shell's here-document.
    private func add(_ name: String, _ allocates: AllocationRequest, plan: String) throws {
        var manifest = PluginManifest.ofTest(name, allocates)
        manifest.publishes = []
        manifest.resources = ["nftables", "route", "rule", "file"]
        manifest.isAlwaysPlanned = true
        try FileSystem.makeDirectory("\(folder)/\(name)")
        try FileSystem.replace("\(folder)/\(name)/manifest.json", with: manifest.json.pretty)
        try FileSystem.replace("\(folder)/\(name)/\(name)", with: "#!/bin/sh\n\(plan)\n", mode: 0o755)
    }

    private func planner() throws -> Planner {
        let found = try PluginRunner.all(in: folder, isConfined: false)
        let manifests = try found.map { try PluginManifest.read("\(folder)/\($0.name)/manifest.json") }
        return try Planner(zip(found, manifests).map { Planner.Member($0, $1, isOwn: true) })
    }

    private static let site: Node =
        (try? YAML.read(Array("{}".utf8), file: "site.yaml"))
        ?? Node.init(
            .object([:]), position: SourcePosition(file: "site.yaml", line: 1, column: 1))

    @Test func aPlanHasNumbersAndThePluginGetsThem() throws {
        let line =
            #"{"kind":"rule","id":"ipv4 first+0","family":"ipv4","priority":{"first":0},"table":{"t":1},"mark":{"hop":3}}"#
        try add(
            "a",
            .init(
                marks: ["hop": .shared, "c": .own(bits: 2, isSaved: true)], tables: ["t": .count(2)],
                priorities: ["first": .early(1)]),
            plan: "jq -c '{kind: \"file\", id: \"/run/vcpe/a/f\", path: \"/run/vcpe/a/f\", owner: \"root\", mode: 420, "
                + "content: (.allocated.tables.t[1] | tostring)}'\necho '\(line)'")
        try add("b", .init(), plan: "jq -c 'select(.allocated) | error(\"it allocates nothing\")'")
        let planner = try planner()
        let plan = try planner.plan(site: Self.site, facts: Facts(), now: 1)
        #expect(plan.values(FileResource.self).map(\.content) == ["10001"])
        let rule = try #require(plan.values(RuleResource.self).first)
        #expect(rule.priority == 1 && rule.action == .table(10_001) && rule.mark == 3 && rule.mask == 0xFF)
        let saved = plan.filter.compactMap { if case .savedMarks(let bits) = $0 { bits } else { nil } }
        #expect(saved == [0xC000_0000])
        // What a line says is what the engine writes into its own files, and reads again.
        for planned in plan.ordered { #expect(try Resource(JSON.parse(planned.line)) == planned.resource) }
        let again = try planner.plan(site: Self.site, facts: Facts(), now: 2, knowing: plan)
        #expect(again.lines == plan.lines)
    }

    /// To Swift, é as one scalar and as two are the same text; to files and to the kernel they are
    /// not.
    @Test func linesAreComparedByTheirBytes() throws {
        try add(
            "a", .init(),
            plan: "jq -c '{kind: \"file\", id: \"/run/vcpe/a/f\", path: \"/run/vcpe/a/f\", owner: \"root\", "
                + "mode: 420, content: .configuration.text}'")
        let planner = try planner()
        func plan(_ text: String, knowing known: Plan = Plan()) throws -> Plan {
            let site = try YAML.read(Array("a: {text: \"\(text)\"}".utf8), file: "site.yaml")
            return try planner.plan(site: site, facts: Facts(), now: 1, knowing: known)
        }
        let (one, two) = ("\u{E9}", "e\u{301}")
        let composed = try plan(one)
        let decomposed = try plan(two, knowing: composed)
        #expect(decomposed.values(FileResource.self).map { Array($0.content.utf8) } == [Array(two.utf8)])
        #expect(decomposed.beyond(composed).count == 1 && composed.beyond(decomposed).count == 1)
        #expect(decomposed.ordered != composed.ordered)
        // The order is that of the bytes, too, and the differences are found by it.
        func files(_ names: [String]) -> Plan {
            Plan(
                names.map { name in
                    let file = FileResource(path: "/run/vcpe/a/\(name)", content: "", owner: "root", mode: 0o644)
                    return PlannedResource(resource: Resource(file), plugin: "a", line: name)
                })
        }
        let all = files([one, "f", "e\u{301}z", "a"])
        #expect(all.lines == ["a", "e\u{301}z", "f", one])
        #expect(all.beyond(files(["f"])).map(\.line) == ["a", "e\u{301}z", one])
        #expect(all.beyond(files([one, "a"])).map(\.line) == ["e\u{301}z", "f"])
    }

    @Test func aForeignFieldFailsThePlanOfItsPlugin() throws {
        try add("a", .init(marks: ["secret": .own(bits: 2, isSaved: true)]), plan: "cat >/dev/null")
        let write = Self.rule(#"{"mangle":{"key":{"meta":{"key":"mark","field":"secret"}},"value":1}}"#)
        try add("b", .init(), plan: "cat >/dev/null\necho '\(write.replacing(["x.c"], with: "b.c"))'")
        let planner = try planner()
        #expect(throws: PluginFailure.self) { _ = try planner.plan(site: Self.site, facts: Facts(), now: 1) }
    }

    @Test func theImagesFileIsWhatTheEngineReads() throws {
        try add("a", .init(tables: ["t": .count(2)]), plan: "cat >/dev/null")
        try add("b", .init(tables: ["t": .count(3)]), plan: "cat >/dev/null")
        let manifests = try ["b", "a"].map { try PluginManifest.read("\(folder)/\($0)/manifest.json") }
        // In the definition's order, which is not that of the names.
        let built = try Allocation(of: manifests)
        try FileSystem.replace("\(folder)/\(Allocation.fileName)", with: built.json.pretty)
        let planner = try Planner(folder: folder)
        #expect(planner.allocation == built && built.share(of: "b").tables == ["t": 10_000...10_002])
        // Another manifest than the image was built with.
        try FileSystem.remove("\(folder)/a")
        try add("a", .init(tables: ["t": .count(4)]), plan: "cat >/dev/null")
        #expect(throws: PluginFailure.self) { _ = try Planner(folder: folder) }
    }
}
