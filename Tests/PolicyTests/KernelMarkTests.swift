import Planning
import PluginKit
import TestSupport
import Testing

/// Mark fields in the kernel, with real packets: what plugins write by names, what connections keep,
/// and what their other packets find.
@Suite(.serialized) struct KernelMarkTests {
    private static let names = ["a", "b", "c"]

    /// A field of a plugin, by the name in its manifest.
    private struct Owned {
        var plugin: String
        var name: String
        var field: MarkField
    }

    private static func allocation(_ random: inout Random) throws -> Allocation {
        let manifests = names.map { plugin in
            var marks: [String: AllocationRequest.Mark] = ["own": .own(bits: 1 + random.next(3), isSaved: true)]
            if random.next(2) == 0 { marks["packet"] = .own(bits: 1 + random.next(2), isSaved: false) }
            if plugin != "c" || random.next(2) == 0 { marks["route"] = .shared }
            if plugin == "b" { marks["class"] = .shared }
            return PluginManifest(
                name: plugin, version: "1", summary: "of a test", key: plugin, yang: "none", resources: ["nftables"],
                allocates: AllocationRequest(marks: marks), features: [])
        }
        return try Allocation(of: manifests)
    }

    private static func packet(_ port: Int, isReply: Bool = false) throws -> TestPacket {
        let ends = try ["10.0.0.9", "10.2.0.9"].map { try #require(IPAddress($0)) }
        return isReply
            ? TestPacket(
                input: 2, output: 0, source: ends[1], destination: ends[0], transport: 17, sourcePort: port, port: 7)
            : TestPacket(
                input: 0, output: 2, source: ends[0], destination: ends[1], transport: 17, sourcePort: 7, port: port)
    }

    /// A chain of one plugin, as the engine makes it of a plan's line.
    private static func chain(
        _ plugin: String, _ stage: Stage, _ rules: [Rule], _ allocation: Allocation
    ) throws -> NftablesResource {
        let name = "\(plugin).\(stage.rawValue)"
        let planned = Resource(NftablesResource.chain(Chain(name, rules: rules), stage: .init(stage, order: 1)))
        let line = planned.json.line
        let read = try Resource(JSON.parse(line)).allocated(by: allocation.share(of: plugin), of: plugin, line: line)
        return try #require(read.as(NftablesResource.self))
    }

    private static func counts(_ name: String, _ mark: UInt32, port: Int, _ direction: Selector.Direction) -> Rule {
        Rule([
            .match(.ct(.direction), .equal, .text(direction.rawValue)),
            .match(.payload(.udp, direction == .original ? "dport" : "sport"), .equal, .number(port)),
            .match(.meta(.mark), .equal, .number(Int(mark))), .counter(name),
        ])
    }

    /// 12 allocations, 40 connections each: every write changes its own field's bits and no others.
    @Test func noWriteChangesAnotherFieldAndConnectionsKeepWhatIsSaved() throws {
        var random = Random(seed: 41)
        let network = try KernelNetwork()
        for round in 0..<12 {
            let allocation = try Self.allocation(&random)
            let fields = Self.names.flatMap { plugin in
                allocation.share(of: plugin).marks.sorted { $0.key < $1.key }.map {
                    Owned(plugin: plugin, name: $0.key, field: $0.value)
                }
            }
            let ports = (0..<40).map { 1000 + 100 * round + $0 }
            var objects: [NftablesResource] = [
                .savedMarks(allocation.savedMarks),
                .chain(Chain("t.forward", rules: [Rule([.verdict(.accept)])]), stage: .init(.forward, order: 1)),
            ]
            var (marks, ends, rules): ([Int: UInt32], [Rule], [String: [Rule]]) = ([:], [], [:])
            // The stages are met in this order, and within a stage the plugins by their names.
            for stage in [Stage.classify, .steer, .inspect, .shape] {
                for plugin in Self.names {
                    let own = fields.filter { $0.plugin == plugin }
                    for port in ports {
                        for _ in 0..<random.next(3) {
                            let target = own[random.next(own.count)]
                            let value = random.next(target.field.values.count)
                            let placed = try #require(target.field.placed(value))
                            marks[port] = (marks[port] ?? 0) & ~target.field.mask | placed
                            rules["\(stage.rawValue) \(plugin)", default: []].append(
                                Rule([
                                    .match(.ct(.direction), .equal, .text("original")),
                                    .match(.payload(.udp, "dport"), .equal, .number(port)),
                                    .set(markField: target.name, value),
                                ]))
                        }
                    }
                    let written = rules["\(stage.rawValue) \(plugin)"] ?? []
                    objects.append(try Self.chain(plugin, stage, written, allocation))
                }
            }
            for port in ports {
                let mark = marks[port] ?? 0
                ends.append(Self.counts("t.out\(port)", mark, port: port, .original))
                ends.append(Self.counts("t.back\(port)", mark & allocation.savedMarks, port: port, .reply))
                for name in ["out", "back"] { objects.append(.counter(NamedCounter("t.\(name)\(port)"))) }
            }
            objects.append(.chain(Chain("t.end", rules: ends), stage: .init(.translated, order: 1)))
            try network.apply(TablePlan(objects))
            for port in ports { try network.send(try Self.packet(port)) }
            func counted(_ name: String) throws -> [Int] {
                let counters = try network.counters()
                return ports.filter { counters["t.\(name)\($0)"] != 1 }
            }
            _ = try Wait.until(3) { try counted("out").isEmpty }
            let wrong = try counted("out")
            #expect(wrong.isEmpty, "round \(round)")
            for port in ports { try network.send(try Self.packet(port, isReply: true)) }
            _ = try Wait.until(3) { try counted("back").isEmpty }
            let back = try counted("back")
            #expect(back.isEmpty, "round \(round)")
            // The entries of conntrack have what is saved, and no route.
            let route = try #require(allocation.share(of: "a").marks["route"])
            #expect(allocation.savedMarks & route.mask == 0)
            let entries = try network.connections().split(separator: "\n")
            for port in ports {
                let entry = try #require(entries.first { $0.contains("sport=7 dport=\(port) ") })
                let found = entry.split(separator: " ").first { $0.hasPrefix("mark=") }?.dropFirst(5)
                #expect(found.flatMap { UInt32($0) } == (marks[port] ?? 0) & allocation.savedMarks, "\(entry)")
            }
            if !wrong.isEmpty || !back.isEmpty { return }
        }
    }

    /// A field that a later packet sets to 0 is 0 for the connection, too.
    @Test func aFieldThatBecomesZeroIsSaved() throws {
        let network = try KernelNetwork()
        var marks: [String] = []
        for value in [5, 0] {
            let manifest = PluginManifest(
                name: "a", version: "1", summary: "of a test", key: "a", yang: "none", resources: ["nftables"],
                allocates: AllocationRequest(marks: ["own": .own(bits: 4, isSaved: true)]), features: [])
            let allocation = try Allocation(of: [manifest])
            try network.apply(
                TablePlan([
                    .savedMarks(allocation.savedMarks),
                    .chain(Chain("t.forward", rules: [Rule([.verdict(.accept)])]), stage: .init(.forward, order: 1)),
                    try Self.chain("a", .classify, [Rule([.set(markField: "own", value)])], allocation),
                ]))
            try network.send(try Self.packet(4000))
            let wanted = "mark=\(value << 28)"
            _ = try Wait.until(3) {
                try network.connections().contains("dport=4000") && network.connections().contains(wanted)
            }
            let entry = try #require(
                try network.connections().split(separator: "\n").first { $0.contains("dport=4000 ") })
            marks.append(String(entry.split(separator: " ").first { $0.hasPrefix("mark=") } ?? ""))
        }
        #expect(marks == ["mark=1342177280", "mark=0"])
    }

    /// A socket's own mark (SO_MARK) keeps the fields that connections do not have.
    @Test func restoringLeavesOtherFieldsOfTheBoxesOwnPackets() throws {
        let network = try KernelNetwork()
        try network.apply(
            TablePlan([
                .savedMarks(0xF000_0000), .counter(NamedCounter("t.both")), .counter(NamedCounter("t.first")),
                .chain(
                    Chain(
                        "t.shape",
                        rules: [
                            Rule([
                                .match(.payload(.udp, "dport"), .equal, .number(4001)),
                                .match(.meta(.mark), .equal, .number(0x3000_0007)), .counter("t.both"),
                            ]),
                            Rule([
                                .match(.payload(.udp, "dport"), .equal, .number(4001)),
                                .match(.meta(.mark), .equal, .number(0x0000_0007)), .counter("t.first"),
                                .setMark(.meta(.mark), .number(0x3000_0007)),
                            ]),
                        ]), stage: .init(.shape, order: 1)),
            ]))
        try network.sendMarked(7, from: 40_010, to: "10.2.0.9", port: 4001, times: 2)
        _ = try Wait.until(3) { try network.counters()["t.both"] == 1 }
        let counters = try network.counters()
        #expect(counters["t.first"] == 1 && counters["t.both"] == 1, "\(counters)")
        let entry = try network.connections().split(separator: "\n").first { $0.contains("dport=4001 ") }
        #expect(entry?.contains("mark=805306368 ") == true, "\(entry ?? "")")
    }
}
