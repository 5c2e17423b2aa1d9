import Disks
import Files
import Glibc
@testable import ImageBuilder
import Processes
import TestSupport
import Testing

/// Power that fails at any moment of a first start, in the making of the data partition too: the box comes back with it.
@Suite(.serialized) final class PowerTorture {
    @Test func powerCutsInTheFirstStart() async throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-power")
        defer { try? FileSystem.remove(folder) }
        let image = try await TestImages.lab()
        let disk = "\(folder)/disk.raw"
        var random = Random(seed: Torture.seed)
        var (failed, formatting) = (0, 0)
        let rounds = 30
        for _ in 0..<rounds {
            try TestImages.copy(image, to: disk)
            for _ in 0...random.next(2) {
                let machine = try Machine(TestImages.direct(image, disk: disk, folder: folder), in: folder)
                // Formatting comes 3 to 4 s after the start here; all is up after 5 to 6.
                usleep(UInt32(2_500_000 + random.next(3_500_000)))
                if machine.console.contains("formatted"), machine.event("up") == nil { formatting += 1 }
                machine.kill()
            }
            let last = try Machine.start(TestImages.direct(image, disk: disk, folder: folder), in: folder, until: "up")
            if field("data", of: last.event) != "mounted" {
                failed += 1
                Issue.record("\(last.machine.story)")
            }
            last.machine.kill()
        }
        print("\(formatting) of the cuts came between the formatting and the end of the start")
        try Torture.note("power cuts in the first start", checked: rounds, failed: failed)
    }

    /// Power that fails in the middle of commits: the box comes back with the old document or the new one, whole.
    @Test func powerCutsInCommits() async throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-power")
        defer { try? FileSystem.remove(folder) }
        let (image, _) = try await TestImages.branchDebug()
        let disk = "\(folder)/disk.raw"
        try TestImages.copy(image, to: disk)
        var random = Random(seed: Torture.seed)
        var (failed, inside) = (0, 0)
        let rounds = 20
        // A box that ends soon after each of five starts waits ten minutes before the next: here it forgets.
        let state = try #require(PartitionTable.read(try File(disk))["state"])
        func forgetStarts() throws {
            try File(disk, O_WRONLY).write([UInt8](repeating: 0, count: state.size), at: state.offset)
        }
        for round in 0..<rounds {
            try forgetStarts()
            let machine = try Machine(TestImages.direct(image, disk: disk, folder: folder), in: folder)
            #expect(machine.wait(for: "service-ready", seconds: 120) != nil, "\(machine.story)")
            try machine.type("exec busybox sh\n")
            try machine.type(
                "vcpectl show >/tmp/a; for i in 1 2 3 4 5 6 7 8 9; do sed \"s/ports: 8[0-9]*/ports: 80$((i+10*\(round % 8)))/\" /tmp/a >/tmp/b; echo begun $i; vcpectl apply /tmp/b; done\n"
            )
            #expect(machine.wait(forConsole: "begun 2"), "\(machine.story)")
            usleep(UInt32(random.next(6_000_000)))
            machine.kill()
            let before = machine.console.split(whereSeparator: \.isNewline)
            let applied = before.filter { $0.contains("is applied: ") }.count
            let begun = before.filter { $0.hasPrefix("begun ") }.count
            if begun > applied { inside += 1 }
            let again = try Machine(TestImages.direct(image, disk: disk, folder: folder), in: folder)
            #expect(again.wait(for: "service-ready", seconds: 120) != nil, "\(again.story)")
            try again.type("exec busybox sh\n")
            try again.type(
                "sleep 4; echo document $(vcpectl show 'nat.forwards[web].ports'); echo kernel $(nft list chain inet vcpe nat.dnat | sed -n 's/.*iifname @.*dport \\([0-9]*\\) .*/\\1/p'); vcpectl status; echo $((40+2))-told\n"
            )
            #expect(again.wait(forConsole: "42-told"), "\(again.story)")
            func word(_ name: String) -> Substring? {
                again.console.split(whereSeparator: \.isNewline).first {
                    $0.hasPrefix(name + " ") && !$0.contains("$")
                }?.dropFirst(
                    name.count + 1)
            }
            // The last that was said to be applied, or the one that was under way.
            let ports = (applied...max(applied, begun)).map { $0 == 0 ? nil : "80\($0 + 10 * (round % 8))" }
            let stands = word("document").map(String.init)
            let isKnown = ports.contains(stands) || ports.contains(nil)
            if stands == nil || stands != word("kernel").map(String.init) || !isKnown
                || again.console.contains("damage:")
            {
                failed += 1
                Issue.record("round \(round): \(ports), \(stands ?? "") \(again.console.suffix(2000))")
            }
            again.kill()
        }
        print("\(inside) of \(rounds) cuts came within a commit")
        try Torture.note("power cuts in commits", checked: rounds, failed: failed)
    }
}
