import Documents
@testable import Engine
import Files
import Glibc
import Netlink
import Planning
import PluginKit
import Processes
import Testing

/// Kinds that a plugin's own program drives.
@Suite(.serialized) struct DriverProgramTests {
    private static let start = "{files: {f: old}, objects: {a: {text: a1}, b: {text: b1}}}"

    private static func seconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// As the engine's loop does once a second, only faster.
    private func tick(_ engine: Engine, for limit: Double, until isDone: () throws -> Bool) throws -> Bool {
        let end = Self.seconds() + limit
        while Self.seconds() < end {
            engine.applier.drift.look()
            engine.applier.drift.programs.step()
            let begin = Self.seconds()
            engine.applier.repairDrift()
            // Only repairing may take longer.
            if try isDone() { return true }
            #expect(Self.seconds() - begin < 3)
            usleep(20_000)
        }
        return try isDone()
    }

    @Test func aCommitChangesOnlyWhatDiffers() throws {
        let box = try BoxWithDriver()
        try box.run(Self.start) { engine in
            #expect(engine.applier.trouble == nil)
            let first = try box.requests()
            #expect(first == ["check", "observe", "apply a", "apply b"])
            let objects = try box.objects()
            #expect(objects == ["a": "a1", "b": "b1"] && box.file("f") == "old")
            let refusal = engine.refusal(
                of: "{files: {f: old}, objects: {a: {text: a1}, b: {text: b2}, c: {text: c1, more: [1, {x: y}]}}}")
            #expect(refusal == nil)
            let second = try box.requests()
            #expect(second == ["check", "observe", "apply b over b1", "apply c"])
            let line = engine.applier.planLines.first { $0.contains("\"c1\"") } ?? ""
            #expect(
                line
                    == #"{"kind":"object","id":"c","at":"objects.c","more":[1,{"x":"y"}],"text":"c1"}"#)
            // A change of another kind leaves the program alone, also where it would hang.
            try box.setFault("check hang")
            let other = engine.refusal(
                of: "{files: {f: new}, objects: {a: {text: a1}, b: {text: b2}, c: {text: c1, more: [1, {x: y}]}}}")
            let third = try box.requests()
            #expect(other == nil && third == [] && box.file("f") == "new")
        }
    }

    @Test func whatIsNotPlannedAnyMoreIsRemoved() throws {
        let box = try BoxWithDriver()
        try box.setObject("stray", #"{"id": "stray", "text": "of another time"}"#)
        let services = "services: [keeper-daemon]"
        try box.run("{\(services), objects: {a: {text: a1}, b: {text: b1}}}") { engine in
            // Nobody knows of it: the state is that of the plan.
            let first = try box.requests()
            #expect(first == ["check", "observe", "apply a", "apply b", "remove stray beside its daemon"])
            #expect(engine.refusal(of: "{\(services), objects: {b: {text: b1}}}") == nil)
            let second = try box.requests()
            #expect(second == ["check", "observe", "remove a beside its daemon"])
            // The daemon that the driver may need is still there when all goes.
            #expect(engine.refusal(of: "{}") == nil)
            let third = try box.requests()
            #expect(third == ["observe", "remove b beside its daemon"])
            let objects = try box.objects()
            #expect(objects == [:] && !FileSystem.exists("\(box.folder)/run/units/keeper-daemon"))
        }
    }

    @Test func aRefusedCheckLeavesEverythingUntouched() throws {
        let box = try BoxWithDriver()
        try box.run(Self.start) { engine in
            _ = try box.requests()
            let refusal = engine.refusal(
                of: "{files: {f: new}, links: [bridge9], objects: {a: {text: a2}, b: {text: b1, check: error}}}")
            #expect(
                refusal == "object b: the driver drive-objects of the plugin keeper refuses it: no room for it")
            let requests = try box.requests()
            #expect(requests == ["check"] && box.file("f") == "old")
            let objects = try box.objects()
            let links = try RouteSocket().links().map(\.name)
            #expect(objects == ["a": "a1", "b": "b1"] && !links.contains("bridge9"))
            #expect(engine.applier.applied.isSettled)
        }
    }

    @Test func aFailureHalfWayRollsEverythingBack() throws {
        let box = try BoxWithDriver()
        try box.run(Self.start) { engine in
            _ = try box.requests()
            let changed = "files: {f: new, g: more}, links: [bridge9]"
            let refusal = engine.refusal(
                of: "{\(changed), objects: {a: {text: a2}, aa: {text: x}, c: {text: c1, apply: error}, d: {text: d1}}}")
            #expect(
                refusal == "object c: the driver drive-objects of the plugin keeper can't apply it: no room for it")
            let requests = try box.requests()
            #expect(
                requests == [
                    "check", "observe", "apply a over a1", "apply aa", "apply c",
                    "observe", "apply a over a2", "remove aa",
                ])
            let objects = try box.objects()
            let links = try RouteSocket().links().map(\.name)
            #expect(objects == ["a": "a1", "b": "b1"] && !links.contains("bridge9"))
            #expect(box.file("f") == "old" && box.file("g") == nil && engine.applier.applied.isSettled)
            // What failed is not in the way of the next change.
            #expect(engine.refusal(of: "{\(changed), objects: {c: {text: c1}}}") == nil)
            let after = try box.objects()
            #expect(after == ["c": "c1"] && box.file("g") == "more")
        }
    }

    @Test func aProgramThatHangsIsKilledAtItsDeadline() throws {
        let box = try BoxWithDriver(driver: ["deadline": 4])
        try box.run(Self.start) { engine in
            let begin = Self.seconds()
            let refusal = engine.refusal(of: "{files: {f: new}, objects: {a: {text: a2}, b: {text: b2, apply: hang}}}")
            #expect(Self.seconds() - begin < 25)
            #expect(
                refusal?.hasPrefix(
                    "the driver drive-objects of the plugin keeper: no answer to apply of object b within 4 s") == true,
                "\(refusal ?? "")")
            let objects = try box.objects()
            #expect(objects == ["a": "a1", "b": "b1"] && box.file("f") == "old" && engine.applier.applied.isSettled)
            let text = String(decoding: try FileSystem.read("\(box.folder)/pids"), as: UTF8.self)
            for pid in text.split(separator: " ").compactMap({ pid_t($0) }) {
                for _ in 0..<200 where kill(pid, 0) == 0 { usleep(10_000) }
                let state = (try? File("/proc/\(pid)/stat").read(4096, at: 0)) ?? []
                #expect(state.isEmpty || String(decoding: state, as: UTF8.self).contains(") Z "), "\(pid)")
            }
        }
    }

    @Test func aProgramThatDoesNotKeepToTheProtocolIsNamed() throws {
        let box = try BoxWithDriver()
        let words = [
            "exit": "it ended with 3 instead of answering apply of object b",
            "garbage": "its answer to apply of object b is not JSON",
            "list": "its answer to apply of object b is not a JSON object",
            "flood": "its answer to apply of object b has more than 16777216 bytes, and it was killed",
            "chatter": "in apply of object b it wrote more than one line an answer, and it was killed",
        ]
        try box.run(Self.start) { engine in
            for (how, problem) in words.sorted(by: { $0.key < $1.key }) {
                let refusal = engine.refusal(
                    of: "{files: {f: new}, objects: {a: {text: a2}, b: {text: b2, apply: \(how)}}}")
                #expect(
                    refusal?.contains("the driver drive-objects of the plugin keeper: \(problem)") == true,
                    "\(how): \(refusal ?? "applied")")
                let objects = try box.objects()
                #expect(objects == ["a": "a1", "b": "b1"] && box.file("f") == "old", "\(how)")
                #expect(engine.applier.applied.isSettled, "\(how)")
            }
            try FileSystem.remove("\(box.folder)/plugins/keeper/drive-objects")
            let refusal = engine.refusal(of: "{objects: {a: {text: a2}}}")
            #expect(
                refusal?.hasPrefix("the driver drive-objects of the plugin keeper can't be started: ") == true,
                "\(refusal ?? "applied")")
        }
    }

    @Test func driftIsRepaired() throws {
        let box = try BoxWithDriver()
        try box.run(Self.start) { engine in
            let changes: [() throws -> Void] = [
                { try box.setObject("a", #"{"id": "a", "text": "other"}"#) },
                { try FileSystem.remove("\(box.folder)/objects/b") },
                { try box.setObject("stray", #"{"id": "stray", "text": "new"}"#) },
            ]
            for change in changes {
                try change()
                _ = try box.requests()
                let isRepaired = try tick(engine, for: 20) { try box.objects() == ["a": "a1", "b": "b1"] }
                let requests = try box.requests()
                #expect(isRepaired && requests.starts(with: ["observe", "check", "observe"]), "\(requests)")
                #expect(requests.count == 4 && engine.applier.trouble == nil, "\(requests)")
            }
        }
    }

    /// A driver that can't repair its kind keeps an operator from no other change, and is tried again.
    @Test func aRepairThatFailsKeepsNoOtherChangeBack() throws {
        let box = try BoxWithDriver(driver: ["deadline": 2, "interval": 1])
        try box.run(Self.start) { engine in
            try box.setFault("apply error")
            try box.setObject("a", #"{"id": "a", "text": "other"}"#)
            _ = try box.requests()
            let isTried = try tick(engine, for: 20) { try box.requests().contains { $0.hasPrefix("apply") } }
            #expect(isTried && engine.applier.trouble == nil)
            #expect(engine.refusal(of: Self.start.replacing("f: old", with: "f: new")) == nil)
            #expect(box.file("f") == "new")
            try box.setFault(nil)
            let isRepaired = try tick(engine, for: 20) { try box.objects() == ["a": "a1", "b": "b1"] }
            #expect(isRepaired)
        }
    }

    /// The engine's loop goes on while a program does not answer.
    @Test func aLookForDriftDoesNotWait() throws {
        let box = try BoxWithDriver(driver: ["deadline": 2, "interval": 1])
        try box.run(Self.start) { engine in
            try box.setFault("observe hang")
            _ = try box.requests()
            let isAsked = try tick(engine, for: 20) { FileSystem.exists("\(box.folder)/pids") }
            #expect(isAsked)
            let begin = Self.seconds()
            for _ in 0..<20 {
                engine.applier.drift.look()
                engine.applier.repairDrift()
            }
            #expect(Self.seconds() - begin < 1)
            // After its deadline it is killed, and asked again at the next look.
            try box.setFault(nil)
            try box.setObject("a", #"{"id": "a", "text": "other"}"#)
            let isRepaired = try tick(engine, for: 20) { try box.objects()["a"] == "a1" }
            #expect(isRepaired)
        }
    }

    /// There is no plan to go back to, and a box without a network could not be reached.
    @Test func aBoxBootsWithoutWhatCanNotBeApplied() throws {
        let box = try BoxWithDriver()
        try box.setFault("apply error")
        try box.run("{files: {f: old}, links: [bridge9], objects: {a: {text: a1}}}") { engine in
            let links = try RouteSocket().links().map(\.name)
            #expect(engine.applier.trouble == nil && box.file("f") == "old" && links.contains("bridge9"))
            let objects = try box.objects()
            #expect(objects == [:])
            try box.setFault(nil)
            let isApplied = try tick(engine, for: 20) { try box.objects() == ["a": "a1"] }
            #expect(isApplied)
        }
    }

    @Test func anEngineThatStartsAgainKnowsTheKind() throws {
        let box = try BoxWithDriver()
        try box.run(Self.start) { engine in
            #expect(engine.refusal(of: "{objects: {a: {text: a2}}}") == nil)
        }
        _ = try box.requests()
        try box.run(Self.start) { engine in
            let requests = try box.requests()
            #expect(requests == [] && engine.applier.applied.plan.resources[ResourceKey("object", "a")] != nil)
            // It crashed within a change: the program is asked what is there.
            engine.applier.note { $0 = $0.onTheWay(to: Plan()) }
        }
        try box.setObject("c", #"{"id": "c", "text": "half way"}"#)
        try box.run(Self.start) { engine in
            let requests = try box.requests()
            let objects = try box.objects()
            #expect(requests == ["check", "observe", "remove c"] && objects == ["a": "a2"])
            #expect(engine.applier.trouble == nil)
        }
    }

    // MARK: - Manifests

    private func problem(_ driver: [String: JSON]) -> String {
        let text = BoxWithDriver.manifest("keeper", driver).line
        let problems = ProblemList()
        guard let node = try? YAML.read(Array(text.utf8), file: "manifest.json") else { return "no document" }
        _ = PluginManifest.shape.read(node, path: "", into: problems)
        return problems.problems.map { "\($0)" }.joined(separator: "\n")
    }

    @Test func driversOfAManifestAreChecked() throws {
        let whole: [String: JSON] = [
            "kind": "object", "program": "drive", "phase": "files", "deadline": 5, "interval": 7,
        ]
        #expect(problem(whole) == "")
        for (key, value, words) in [
            ("kind", "link", "not a kind of the engine's own"), ("kind", "Object", "lower-case"),
            ("program", "../drive", "name of a file"), ("program", "/usr/../drive", "name of a file"),
            ("phase", "filter", "addresses, routes"), ("deadline", "0", "1 to 600"), ("program", "", "name of a file"),
        ] as [(String, JSON, String)] {
            let text = problem(whole.merging([key: value]) { $1 })
            #expect(text.contains("drivers[0].\(key)") && text.contains(words), "\(key) \(value): \(text)")
        }
        let manifest = PluginManifest(
            name: "x", version: "1", summary: "s", key: "x", yang: "x.yang", resources: ["object", "file"],
            drivers: [.init(kind: "object", program: "drive", phase: .files, deadline: 5, interval: 7)], features: [])
        let node = try YAML.read(Array(manifest.json.pretty.utf8), file: "manifest.json")
        let read = PluginManifest.shape.read(node, path: "", into: ProblemList())
        #expect(read == manifest)
    }

    @Test func kindsOfSeveralPluginsMustAgree() throws {
        let box = try BoxWithDriver()
        let other = "\(box.folder)/plugins/other"
        try FileSystem.makeDirectory(other)
        try FileSystem.replace("\(other)/other", with: "#!/bin/sh\n", mode: 0o755)
        func refusal(_ manifest: JSON) throws -> String {
            try FileSystem.replace("\(other)/manifest.json", with: manifest.pretty)
            do {
                _ = try box.places.planner()
                return "none"
            } catch {
                return "\(error)"
            }
        }
        let clash = try refusal(BoxWithDriver.manifest("other", ["kind": "object", "program": "drive"]))
        #expect(clash.contains("the plugins keeper and other both drive the kind \"object\""), "\(clash)")
        var manifest = BoxWithDriver.manifest("other", ["kind": "thing", "program": "drive"]).object ?? [:]
        // Another plugin's kind may be planned.
        let fine = try refusal(.object(manifest))
        #expect(fine == "none")
        manifest["resources"] = ["objects"]
        let unknown = try refusal(.object(manifest))
        #expect(
            unknown.contains("plans the kind \"objects\", which no plugin drives; did you mean object?"), "\(unknown)")
    }

    // MARK: - The page

    /// The program of `docs/plugins.md` keeps to the protocol of its page.
    @Test func theProgramOfThePageIsADriver() throws {
        let page = String(decoding: try FileSystem.read("\(BoxWithDriver.repository)/docs/plugins.md"), as: UTF8.self)
        let start = try #require(page.firstRange(of: "```sh\n#!/bin/sh\n# drive-book"))
        let end = try #require(page[start.upperBound...].firstRange(of: "```\n"))
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-book")
        defer { try? FileSystem.remove(folder) }
        let program = String(page[start.lowerBound..<end.lowerBound].dropFirst("```sh\n".count))
            .replacing("/data/library", with: folder)
        try FileSystem.replace("\(folder)/drive-book", with: program, mode: 0o755)
        let process = try Coprocess("\(folder)/drive-book", ["drive", "book"], limit: 1 << 20) { Issue.record("\($0)") }
        func ask(_ request: JSON) throws -> JSON {
            try JSON.parse(try process.ask(Array(request.line.utf8), deadline: 20))
        }
        let book: JSON = ["id": "dune", "title": "Dune"]
        for (request, answer) in [
            (["do": "check", "resources": [book]], [:]),
            (["do": "check", "resources": [["id": "x"]]], ["error": "a book needs a title", "id": "x"]),
            (["do": "observe"], ["resources": []]), (["do": "apply", "resource": book], [:]),
            (["do": "observe"], ["resources": [book]]), (["do": "remove", "present": book], [:]),
            (["do": "observe"], ["resources": []]),
        ] as [(JSON, JSON)] {
            let found = try ask(request)
            #expect(found == answer, "\(request.line)")
        }
        #expect(process.stop(within: 5) == 0)
    }
}
