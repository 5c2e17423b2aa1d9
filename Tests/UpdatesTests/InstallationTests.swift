import Digests
import Files
import Glibc
import Processes
import Slots
import TestSupport
import Testing
@testable import Updates

/// Upgrades of a box whose disk is in memory, so that power may fail at any write and the network
/// at any byte.
@Suite(.serialized) final class InstallationTests {
    fileprivate let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-installation") }

    deinit { try? FileSystem.remove(folder) }

    @Test func aPatchThatDoesNotFitIsFollowedByBlocks() async throws {
        let releases = try await SimulatedRelease.make([.good, .good, .panics], in: folder)
        let box = try SimulatedBox(releases, in: folder)
        var random = Random(seed: 1)
        for _ in 0..<20 {
            #expect(try box.install(1, .spoiledPatch, &random, failsOneIn: .max) == true)
            #expect(try BootPartition(box.esp).entries.map(\.fileName) == ["vcpe-1.efi", "vcpe-2+3.efi"])
        }
        try box.start(&random, failsOneIn: .max)
        #expect(box.running.release == 1 && box.running.slot == 1)
        #expect(try BootPartition(box.esp).entries.map(\.fileName) == ["vcpe-1.efi", "vcpe-2.efi"])
        // Back to an older release: by blocks, since there is no patch for it.
        #expect(try box.install(0, .none, &random, failsOneIn: .max) == true)
        try box.start(&random, failsOneIn: .max)
        #expect(box.running.release == 0 && box.running.entry == 3)
    }

    /// The cheapest method: if every block is missing, all of them compressed together.
    @Test func aRootUnlikeTheOldOneIsFetchedWhole() async throws {
        let releases = try await SimulatedRelease.make([.good, .good, .good], areUnlike: true, in: folder)
        let box = try SimulatedBox(releases, in: folder)
        let whole = try #require(releases[2].files["root.zst"]).count
        #expect(try #require(releases[2].files["root.blocks"]).count > whole * 3 / 2)
        // Damaged, and cut short: nothing wrong is kept, and what was fetched is not fetched again.
        for cut in [true, false] {
            var installation = try box.installation(of: releases[2]) { name, bytes in
                if name == "root.zst", cut { bytes = Array(bytes[..<(bytes.count / 2)]) }
            }
            if cut {
                #expect(throws: UpdateFailure.self) { _ = try installation.run() }
            } else {
                _ = try installation.run()
                #expect(installation.method == .full && installation.cost.fetched < whole + 20_000)
            }
        }
        // After a patch that a mirror has damaged, blocks are used.
        let other = try SimulatedBox(releases, in: folder)
        var spoiled = try other.installation(of: releases[2]) { name, bytes in
            if name == "root.zst" { bytes[bytes.count / 2] ^= 0x40 }
        }
        _ = try spoiled.run()
        #expect(spoiled.method == .blocks)
        // zstd itself decompresses it, too.
        let unpacked = try Command("zstd", ["-d", "-q", "-c", "\(folder)/1.0.2/root.zst"]).check().output
        #expect(unpacked == releases[2].root)
        var random = Random(seed: 1)
        try box.start(&random, failsOneIn: .max)
        #expect(box.running.release == 2)
        // A patch from exactly this release is preferred to both.
        var next = try SimulatedBox(releases, in: folder).installation(of: releases[1])
        _ = try next.run()
        #expect(next.method == .patch)
    }

    @Test func aDownloadedReleaseDoesNotBoot() async throws {
        let releases = try await SimulatedRelease.make([.good, .good], in: folder)
        let box = try SimulatedBox(releases, in: folder)
        var download = try box.installation(of: releases[1])
        try download.prepare()
        #expect(download.cost.fetched > 10_000)
        #expect(try BootPartition(box.esp).entries.map(\.fileName) == ["vcpe-1.efi"])
        var random = Random(seed: 1)
        try box.start(&random, failsOneIn: .max)
        #expect(box.running.release == 0)
        // Then only the tables are fetched.
        var installation = try box.installation(of: releases[1])
        _ = try installation.run()
        #expect(installation.cost.fetched < 1000, "\(installation.cost)")
        try box.start(&random, failsOneIn: .max)
        #expect(box.running.release == 1)
    }

    @Test func powerLossAnywhereInAnUpgradeLeavesOldOrNew() async throws {
        let outcome = try await cuts(every: 2, shuffled: 20, seed: 5)
        #expect(outcome.failed == 0 && outcome.checked > 300)
        print("\(outcome.checked) cuts of power in two upgrades with \(outcome.writes) writes")
    }

    fileprivate func cuts(
        every: Int, shuffled: Int, seed: UInt64
    ) async throws -> (checked: Int, failed: Int, writes: Int) {
        let releases = try await SimulatedRelease.make([.good, .good, .good], in: folder)
        let (before, events) = try SimulatedBox(releases, in: folder).recordedUpgrade()
        var random = Random(seed: seed)
        var (checked, failed) = (0, 0)
        try RecordedDisk.cuts(events, every: every, shuffled: shuffled, random: &random) { state in
            checked += 1
            if let complaint = try SimulatedBox.complaint(state.over(before), releases) {
                failed += 1
                Issue.record("state \(checked) of seed \(seed): \(complaint)")
            }
        }
        return (checked, failed, events.count)
    }

    @Test func whateverHappensTheBoxRunsTheOldOrTheNew() async throws {
        let lives = try await sequences(12, seed: 7)
        #expect(lives.failed == 0 && lives.cuts > 10 && lives.falls > 10)
    }

    /// Random sequences of good and bad releases, over connections that break, with damaged patches
    /// and engines that refuse, with power failing anywhere, also in the loader's and PID 1's own
    /// writes; each release that boots is given other documents, while its engine crashes.
    fileprivate func sequences(_ count: Int, seed: UInt64) async throws -> (cuts: Int, falls: Int, failed: Int) {
        let releases = try await SimulatedRelease.make(
            [.good, .good, .panics, .good, .unwell, .good], in: folder)
        var (installations, cuts, failed, commits, falls) = (0, 0, 0, 0, 0)
        for sequence in 0..<count {
            var random = Random(seed: seed &* 1_000_003 &+ UInt64(sequence))
            let box = try SimulatedBox(releases, in: folder)
            let site = try SimulatedSite(in: folder)
            box.site = site
            defer { (cuts, commits, falls) = (cuts + box.cuts, commits + site.commits.count, falls + site.falls) }
            do {
                for _ in 0..<(2 + random.next(4)) {
                    let old = box.running.release
                    let wanted = (old + 1 + random.next(releases.count - 1)) % releases.count
                    let mishap = SimulatedBox.Mishap.allCases[random.next(4)]
                    installations += 1
                    let isInstalled = try box.install(wanted, mishap, &random, failsOneIn: 3)
                    let isCancelled = isInstalled != nil && random.next(6) == 0
                    if isCancelled { try box.cancel() }
                    let cuts = box.cuts
                    try box.start(&random, failsOneIn: 5)
                    // What was installed and is good runs; else what ran before; after a power loss
                    // either, also if one ended each of its first boots.
                    let isWanted = isInstalled == true && !isCancelled && releases[wanted].quality == .good
                    let mayBeEither = isInstalled == nil || isWanted && box.cuts - cuts >= BootPartition.tries
                    let allowed = mayBeEither ? [old, wanted] : [isWanted ? wanted : old]
                    guard allowed.contains(box.running.release) else {
                        throw SimulatedBox.Broken(
                            description:
                                "\(box.running) after \(wanted) (\(mishap), \(String(describing: isInstalled))) on \(old)"
                        )
                    }
                }
                let (names, complaint) = try box.examine(in: folder)
                if let complaint { throw SimulatedBox.Broken(description: "\(names): \(complaint)") }
                try site.giveAgain(releases[box.running.release].version, &random)
            } catch {
                failed += 1
                Issue.record("sequence \(sequence) of seed \(seed): \(error)")
            }
        }
        print(
            "\(count) sequences, \(installations) installations, \(cuts) cuts of power; \(commits) commits, "
                + "\(falls) falls of engines")
        return (cuts, falls, failed)
    }
}

struct MaintenanceWindowTests {
    private static let hour = 3600

    @Test func eachBoxHasItsOwnTimeWithinTheWindow() {
        // Short, and across midnight.
        for window in [
            MaintenanceWindow(from: 2 * Self.hour, to: 2 * Self.hour + 600),
            MaintenanceWindow(from: 23 * Self.hour, to: 2 * Self.hour),
        ] {
            let length = window.to > window.from ? window.to - window.from : window.to + 86_400 - window.from
            var firsts: Set<Int> = []
            for share in 0..<200 as Range<UInt64> {
                let share = share &* 2_654_435_761
                let due = (0..<86_400 / 20).map { $0 * 20 }.filter {
                    window.isDue(time: 20_000 * 86_400 + $0, uptime: 0, lastCheck: nil, share: share)
                }.map { ($0 - window.from + 86_400) % 86_400 }
                #expect(due.allSatisfy { $0 < length } && due.count * 20 >= length / 4 - 40)
                firsts.insert(due.min() ?? -1)
            }
            #expect(firsts.count > 15, "\(firsts.count) different beginnings")
        }
    }

    /// If a director's window shares an hour with the site's, each box checks within both.
    @Test func aBoxWithADirectorChecksEachHour() {
        var (site, day) = (MaintenanceWindow(from: 22 * Self.hour, to: 4 * Self.hour), MaintenanceWindow.always)
        (site.isHourly, day.isHourly) = (true, true)
        for (window, from) in [(site, 22.0), (site, 25), (site, 26.5), (site, 27), (day, 24), (day, 37), (day, 23.5)] {
            for share in 0..<100 as Range<UInt64> {
                var (looks, last): ([Int], Int?) = ([], nil)
                for time in stride(from: 21 * Self.hour, to: 70 * Self.hour, by: 20)
                where window.isDue(time: time, uptime: time, lastCheck: last, share: share &* 2_654_435_761) {
                    looks.append(time)
                    last = time
                }
                for day in 0..<2 {
                    let begin = Int(from * 3600) + day * 86_400
                    #expect(looks.contains { (begin..<begin + Self.hour).contains($0) }, "\(begin), \(share)")
                }
            }
        }
    }

    @Test func statusSaysWhenABoxChecks() {
        #expect(
            MaintenanceWindow(from: 2 * Self.hour, to: 4 * Self.hour + Self.hour / 2).text(share: 4260)
                == "from 02:00 to 04:30, this box from 03:11")
        #expect(
            MaintenanceWindow(from: 23 * Self.hour, to: Self.hour).text(share: 3660)
                == "from 23:00 to 01:00, this box from 00:01")
        #expect(MaintenanceWindow.always.text(share: 90) == "all day, this box from 00:01")
    }

    @Test func aClockThatIsSetStopsNoUpgrade() {
        let window = MaintenanceWindow(from: 0, to: Self.hour * 3)
        let time = 20_000 * 86_400 + 2 * Self.hour + Self.hour / 2
        #expect(window.isDue(time: time, uptime: 90_000, lastCheck: nil, share: 5))
        // An hour's pause, by a clock that does not jump.
        #expect(!window.isDue(time: time + 40_000_000, uptime: 90_100, lastCheck: 90_000, share: 5))
        #expect(window.isDue(time: time - 10 * 86_400, uptime: 93_600, lastCheck: 90_000, share: 5))
        #expect(!window.isDue(time: time + Self.hour, uptime: 93_600, lastCheck: nil, share: 5))
    }
}

/// A thousand such sequences.
@Suite(.serialized) struct InstallationTorture {
    @Test func lives() async throws {
        let tests = try InstallationTests()
        let outcome = try await tests.sequences(1000, seed: Torture.seed)
        try Torture.note("lives of a simulated box", checked: 1000, failed: outcome.failed)
    }

    /// Every write of two upgrades as the last one, and many sets of those since the last flush.
    @Test func everyCut() async throws {
        let outcome = try await InstallationTests().cuts(every: 1, shuffled: 1200, seed: Torture.seed)
        #expect(outcome.checked >= 10_000, "\(outcome)")
        try Torture.note("cuts of power in upgrades, looked at", checked: outcome.checked, failed: outcome.failed)
    }

    /// Patches and blocks that were damaged: no crash, and nothing that is not signed is installed.
    @Test func spoiledDeltas() async throws {
        let tests = try InstallationTests()
        let releases = try await SimulatedRelease.make([.good, .good], in: tests.folder)
        let (old, new) = (releases[0], releases[1])
        let running = RecordedDisk(old.root)
        var random = Random(seed: Torture.seed)
        var (checked, failed, refused) = (0, 0, 0)
        for _ in 0..<100_000 {
            let isPatch = random.next(2) == 0
            let name = isPatch ? "root.from-\(old.version).patch" : "root.blocks"
            let line = SimulatedBox.Line(bytes: Self.spoiled(try #require(new.files[name]), &random))
            let slot = RecordedDisk([UInt8](repeating: 0xE5, count: new.root.count))
            checked += 1
            do {
                if isPatch {
                    var delta = try PatchDelta(name: name, source: line, bytes: new.root.count, index: nil)
                    try delta.install(into: slot, from: running)
                } else {
                    var delta = try BlockDelta(
                        name: name, source: line, bytes: new.root.count, rootHash: new.available.rootHash)
                    try delta.install(into: slot, from: .root(running, old.layout))
                }
                // The superblock is no part of the tree, and frames are not signed themselves: the
                // whole root's hash is.
                let made = slot.read(new.root.count, at: 0)
                if !isPatch, made.prefix(24 * VerityLayout.blockSize) != new.root.prefix(24 * VerityLayout.blockSize) {
                    failed += 1
                }
            } catch { refused += 1 }
        }
        #expect(failed == 0 && refused > checked / 4, "\(refused) of \(checked) were refused")
        try Torture.note("spoiled deltas", checked: checked, failed: failed)
    }

    private static func spoiled(_ bytes: [UInt8], _ random: inout Random) -> [UInt8] {
        var bytes = bytes
        for _ in 0...random.next(3) {
            // Every other time in the index.
            let place = random.next(random.next(2) == 0 ? min(bytes.count, 600) : bytes.count)
            switch random.next(5) {
            case 0: bytes[place] ^= 1 << UInt8(random.next(8))
            case 1: bytes[place] = UInt8(random.next(256))
            case 2: bytes = Array(bytes[..<max(1, place)])
            case 3: bytes.insert(contentsOf: (0..<random.next(20)).map { _ in UInt8(random.next(256)) }, at: place)
            default:
                let digits = Array("0123456789-,]}".utf8)
                bytes[place] = digits[random.next(digits.count)]
            }
        }
        return bytes
    }
}
