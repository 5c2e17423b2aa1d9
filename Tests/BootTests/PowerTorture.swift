import Files
import Glibc
import ImageBuilder
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
}
