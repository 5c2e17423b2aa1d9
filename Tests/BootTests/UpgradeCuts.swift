import Files
import Processes
import TestSupport
import Testing

/// An upgrade of a box as QEMU writes it down, and cuts of power anywhere in it: looked at, and started.
final class UpgradeCuts {
    private let bench: UpgradeBench
    /// The box's disk before.
    private let before: String
    private var logs: [String] = []
    private let seed: UInt64
    private var random: Random

    /// From here on what reaches the disk is written down; the box is off.
    init(of bench: UpgradeBench, seed: UInt64) throws {
        (self.bench, self.seed, random) = (bench, seed, Random(seed: seed))
        before = "\(bench.folder)/before.raw"
        try Command("cp", ["--sparse=always", bench.disk, before]).check()
        try recordNextStart()
    }

    /// Each start has a record of its own.
    func recordNextStart() throws {
        logs.append("\(bench.folder)/\(logs.count).log")
        try bench.record(to: logs.last)
    }

    /// Looks at what each cut leaves, and at what is left where some of what came since the last flush is not there.
    ///
    /// - Parameters:
    ///   - looks: as many in all.
    ///   - document: words of the box's document.
    func look(_ looks: Int, document: String) throws -> (checked: Int, failed: Int) {
        try withRecord(document) { upgrade in
            let all = upgrade.writes.count
            // Half of them where something else is written than a root.
            let places = ["esp", "state", "data"].flatMap { upgrade.writes(to: $0) }
            let samples = (0..<max(0, looks - all - 1)).map { number in
                number % 2 == 0 ? random.next(all + 1) : places[random.next(places.count)] + 1
            }.sorted()
            var (checked, failed, next) = (0, 0, 0)
            for place in 0...all {
                var losses = [RecordedUpgrade.Loss.none]
                while next < samples.count, samples[next] == place {
                    losses.append(next % 2 == 0 ? .writes : .sectors)
                    next += 1
                }
                for loss in losses {
                    checked += 1
                    if let complaint = try upgrade.complaint(try upgrade.cut(at: place, loss, &random)) {
                        failed += 1
                        Issue.record("cut at \(place) of \(all), \(loss), seed \(seed): \(complaint)")
                    }
                }
            }
            return (checked, failed)
        }
    }

    /// Starts boxes from what is left: half of the cuts anywhere, half where entries change.
    ///
    /// - Parameters:
    ///   - versions: of the releases that may run.
    ///   - domain: of the box's document.
    /// - Returns: how many failed.
    func start(_ boots: Int, versions: Set<String>, domain: String) throws -> Int {
        try withRecord("domain: \(domain)") { upgrade in
            let (all, entries) = (upgrade.writes.count, upgrade.writes(to: "esp"))
            let places = (0..<boots).map { number in
                number % 2 == 0 || entries.isEmpty
                    ? random.next(all) : entries[random.next(entries.count)] + random.next(2)
            }.sorted()
            var (failed, started) = (0, [String: Int]())
            for (number, place) in places.enumerated() {
                try upgrade.make(bench.disk, try upgrade.cut(at: place, number % 3 == 0 ? .sectors : .none, &random))
                let box = try bench.start(seconds: 200)
                let version = field("version", of: box.event("up")) ?? "none"
                started[version, default: 0] += 1
                let isWell =
                    versions.contains(version) && field("data", of: box.event("up")) == "mounted"
                    ? try bench.ask(box, "vcpectl show lan.domain", until: domain) : false
                if !isWell {
                    failed += 1
                    Issue.record("cut \(number) at \(place) of \(all), seed \(seed): \(box.story)")
                }
                box.kill()
            }
            print("\(all) writes and flushes, \(entries.count) of them to the boot partition; started: \(started)")
            return failed
        }
    }

    private func withRecord<Result>(
        _ document: String, _ body: (RecordedUpgrade) throws -> Result
    ) throws -> Result {
        try bench.record(to: nil)
        let memory = try FileSystem.makeTemporaryDirectory(in: "/dev/shm", prefix: "vcpe-upgrade")
        let disk = "\(bench.folder)/recorded.raw"
        defer {
            try? FileSystem.remove(memory)
            try? FileSystem.remove(disk)
        }
        try Command("cp", ["--sparse=always", before, disk]).check()
        return try body(
            RecordedUpgrade(logs, on: disk, releases: bench.images, in: memory, document: document))
    }
}
