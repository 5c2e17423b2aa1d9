import Documents
import Files
import PluginKit
import TestSupport
import Testing

/// Which numbers the manifests of an image get.
@Suite struct AllocatorTests {
    private func conflict(_ manifests: PluginManifest...) -> Allocation.Conflict? {
        do {
            _ = try Allocation(of: manifests)
            return nil
        } catch {
            return error
        }
    }

    @Test func fieldsOfPacketsAndOfConnectionsHaveBitsOfTheirOwn() throws {
        let allocation = try Allocation(of: [
            PluginManifest.ofTest(
                "a", .init(marks: ["route": .shared, "hop": .shared, "x": .own(bits: 3, isSaved: true)])),
            PluginManifest.ofTest(
                "b", .init(marks: ["route": .shared, "class": .shared, "x": .own(bits: 1, isSaved: false)])),
        ])
        let (a, b) = (allocation.share(of: "a").marks, allocation.share(of: "b").marks)
        #expect(a["route"] == b["route"])
        #expect(a["hop"]?.mask == 0x0000_00FF && a["route"]?.mask == 0x0000_FF00)
        #expect(b["x"]?.mask == 0x0001_0000 && a["x"]?.mask == 0xE000_0000 && b["class"]?.mask == 0x1FE0_0000)
        #expect(allocation.savedMarks == 0xFFE0_0000)
        #expect(allocation.fields.map(\.name) == ["hop", "route", "b.x", "class", "a.x"])
        // Each direction has its own route, and each packet is at a hop of its own.
        #expect(a["route"]?.isSaved == false && a["hop"]?.isSaved == false && a["hop"]?.bits == 8)
        #expect(try Allocation(of: []).savedMarks == 0)
    }

    @Test func marksThatDoNotFitAreRefusedWithWhoTakesThem() throws {
        let found = conflict(
            PluginManifest.ofTest("a", .init(marks: ["hop": .shared, "x": .own(bits: 12, isSaved: true)])),
            PluginManifest.ofTest("b", .init(marks: ["y": .own(bits: 9, isSaved: false)])),
            PluginManifest.ofTest("c", .init(marks: ["z": .own(bits: 4, isSaved: true)])))
        #expect(found?.plugin == "c")
        for part in ["3 are left", "c needs 4 for c.z", "a takes 8 for hop", "a takes 12 for a.x", "b takes 9 for b.y"]
        {
            #expect(found?.message.contains(part) == true, "\(part): \(String(describing: found))")
        }
    }

    @Test func numbersThatPeopleWriteHaveTheirPlace() throws {
        let site = PluginManifest.ofTest(
            "network", .init(tables: ["site": .fixed(1...199)], priorities: ["site": .fixed(1000...9999)]))
        let other = PluginManifest.ofTest(
            "wan",
            .init(
                zones: ["lines": .count(4)], tables: ["lines": .count(16), "more": .count(1)],
                priorities: ["first": .early(10), "last": .count(20)]))
        for manifests in [[site, other], [other, site]] {
            let allocation = try Allocation(of: manifests)
            #expect(allocation.share(of: "network").tables == ["site": 1...199])
            let share = allocation.share(of: "wan")
            #expect(share.tables == ["lines": 10_000...10_015, "more": 10_016...10_016])
            #expect(share.zones == ["lines": 1...4])
            #expect(share.priorities == ["first": 1...10, "last": 10_000...10_019])
        }
        let twice = conflict(site, PluginManifest.ofTest("frr", .init(tables: ["vrfs": .fixed(150...300)])))
        #expect(twice?.plugin == "frr" && twice?.message.contains("network takes 1 to 199 for site") == true)
        let kernel = conflict(PluginManifest.ofTest("frr", .init(tables: ["vrfs": .fixed(200...253)])))
        #expect(kernel?.message.contains("253 to 255 are the kernel's") == true)
        let many = conflict(
            PluginManifest.ofTest("a", .init(priorities: ["x": .early(900)])),
            PluginManifest.ofTest("b", .init(priorities: ["x": .early(100)])))
        #expect(many?.message.contains("a takes 1 to 900 for x") == true)
        // What another plugin has fixed there is left out.
        let around = try Allocation(of: [
            PluginManifest.ofTest("a", .init(zones: ["x": .count(3)])),
            PluginManifest.ofTest("b", .init(zones: ["y": .fixed(2...2)])),
        ])
        #expect(around.share(of: "a").zones == ["x": 3...5])
    }

    @Test func usersAndNamespacesOfSeveralPluginsDoNotMix() throws {
        let users = conflict(
            PluginManifest.ofTest("a", .init(), users: ["proxy": "/data/a"]),
            PluginManifest.ofTest("b", .init(), users: ["proxy": "/data/b"]))
        #expect(users?.plugin == "b" && users?.message.contains("home /data/a in the plugin a") == true)
        #expect(
            conflict(
                PluginManifest.ofTest("a", .init(), users: ["proxy": "/x"]),
                PluginManifest.ofTest("b", .init(), users: ["proxy": "/x"])
            ) == nil)
        let namespaces = conflict(
            PluginManifest.ofTest("a", .init(namespaces: ["b-c"])),
            PluginManifest.ofTest("a-b", .init(namespaces: ["c"])))
        #expect(namespaces?.plugin == "a-b" && namespaces?.message.contains("a-b-c") == true)
        let fine = try Allocation(of: [PluginManifest.ofTest("a", .init(namespaces: ["x"]))])
        #expect(fine.share(of: "a").namespaces == ["x": "a-x"])
    }

    // MARK: - By chance

    private func request(_ random: inout Random) -> AllocationRequest {
        func numbers(_ most: Int, _ random: inout Random) -> [String: AllocationRequest.Numbers] {
            Dictionary((0..<random.next(4)).map { ("n\($0)", .count(1 + random.next(most))) }) { $1 }
        }
        var marks: [String: AllocationRequest.Mark] = [:]
        for field in MarkField.shared where random.next(4) == 0 { marks[field.name] = .shared }
        for number in 0..<random.next(3) {
            marks["m\(number)"] = .own(bits: 1 + random.next(3), isSaved: random.next(2) == 0)
        }
        return AllocationRequest(
            marks: marks, zones: numbers(100, &random), tables: numbers(50, &random),
            priorities: numbers(300, &random).mapValues { $0 == .count(7) ? .early(7) : $0 },
            namespaces: (0..<random.next(3)).map { "s\($0)" })
    }

    /// 1000 images of up to six plugins.
    @Test func noTwoHaveTheSameAndAPluginBehindTheOthersChangesNothing() throws {
        var random = Random(seed: 23)
        var (whole, refused) = (0, 0)
        for round in 0..<1000 {
            let manifests = (0...random.next(6)).map { PluginManifest.ofTest("p\($0)", request(&random)) }
            guard let allocation = try? Allocation(of: manifests) else {
                refused += 1
                continue
            }
            whole += 1
            #expect(try Allocation(of: manifests) == allocation)
            let before = try Allocation(of: manifests.dropLast())
            for manifest in manifests.dropLast() {
                #expect(allocation.share(of: manifest.name) == before.share(of: manifest.name), "round \(round)")
            }
            for manifest in manifests { #expect(allocation.share(of: manifest.name).isOf(manifest.allocates)) }
            var bits: UInt32 = 0
            for field in allocation.fields {
                #expect(bits & field.mask == 0 && field.mask.nonzeroBitCount == field.bits, "round \(round)")
                bits |= field.mask
            }
            for path in [\Allocation.Share.zones, \.tables, \.priorities] {
                let all = allocation.shares.values.flatMap { $0[keyPath: path].values }
                #expect(Set(all.flatMap { Array($0) }).count == all.reduce(0) { $0 + $1.count }, "round \(round)")
            }
            // The file has all of it.
            let problems = ProblemList()
            let node = try YAML.read(Array(allocation.json.pretty.utf8), file: "allocation.json")
            #expect(Allocation.shape.read(node, path: "", into: problems) == allocation, "\(problems.problems)")
        }
        #expect(whole > 500 && refused > 10, "\(whole) \(refused)")
    }

    @Test func manifestsAreReadAsTheyAreWritten() throws {
        var random = Random(seed: 24)
        for _ in 0..<200 {
            var wanted = request(&random)
            wanted.tables["site"] = .fixed(1...199)
            wanted.priorities["early"] = .early(3)
            let manifest = PluginManifest.ofTest("p", wanted)
            let problems = ProblemList()
            let node = try YAML.read(Array(manifest.json.pretty.utf8), file: "manifest.json")
            #expect(PluginManifest.shape.read(node, path: "", into: problems) == manifest, "\(problems.problems)")
        }
    }

    @Test(arguments: [
        ("{marks: {route: {bits: 8}}}", "write \"route\": \"shared\""),
        ("{marks: {color: shared}}", "shared fields are route, hop, class"),
        ("{marks: {color: {bits: 33}}}", "1 to 32"),
        ("{zones: {x: 0}}", "from 1 to 65535"), ("{tables: {x: [5, 2]}}", "[FIRST, LAST]"),
        ("{zones: {x: {count: 2, early: true}}}", "whole number"), ("{priorities: {x: [0, 5]}}", "1 to 32765"),
        ("{namespaces: [A]}", "a name of lower-case letters"),
    ])
    func manifestsThatAreWrongAreRefused(text: String, part: String) throws {
        var manifest = PluginManifest.ofTest("p", .init()).json.object ?? [:]
        manifest["allocates"] = JSON(try YAML.read(Array(text.utf8), file: "allocates"))
        let problems = ProblemList()
        let node = try YAML.read(Array(JSON.object(manifest).pretty.utf8), file: "manifest.json")
        _ = PluginManifest.shape.read(node, path: "", into: problems)
        #expect(problems.problems.map { "\($0)" }.joined().contains(part), "\(problems.problems)")
    }
}
