import Files
import Glibc
import Processes
import Testing

@testable import ImageBuilder

/// The controls that a run of proofs records about the machine itself.
@Suite final class BootControlsTests {
    let folder: String

    init() throws { folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-controls") }

    deinit { try? FileSystem.remove(folder) }

    /// Runs the controls of a machine that has sent `events`.
    private func controls(_ events: [String], seconds: Double = 0.1) throws -> [ProofRecord.Check] {
        try FileSystem.replace("\(folder)/events", with: events.map { $0 + "\n" }.joined())
        let process = try Command("sleep", ["60"], environment: ["PATH": "/usr/bin:/bin"]).start(
            output: File("\(folder)/qemu", O_RDWR | O_CREAT))
        defer { process.kill() }
        let box = RunningBox(
            process: process, events: BoxEvents(path: "\(folder)/events"), folder: folder, start: Clock.seconds,
            deadline: Clock.seconds + seconds)
        var machine = ProofRecord.Machine(
            firmware: "uefi", loaderEntry: "", secureBoot: false, accelerator: "tcg", disk: "virtio", network: "virtio")
        return try BootControls(image: "box 1", isSigned: true, hasEngine: true).run(box, &machine) { _ in }
            + [box.runsToTheEnd]
    }

    private static let names = [
        "boots", "boots through firmware and loader", "Secure Boot is on", "the engine is ready", "drivers are loaded",
        "runs to the end",
    ]

    @Test func eachRunRecordsAllControls() throws {
        let up = #"{"event":"up","name":"box","version":"1","entry":"vcpe-1.efi","secure-boot":"on"}"#
        let ready = #"{"event":"service-ready","name":"engine"}"#
        let good = try controls([up, ready, #"{"event":"coldplugged"}"#])
        #expect(good.map(\.name) == Self.names)
        #expect(good.allSatisfy { $0.status == .passed }, "\(good)")
        let silent = try controls([])
        #expect(silent.map(\.name) == Self.names)
        #expect(silent.map(\.status) == [.failed, .skipped, .skipped, .skipped, .skipped, .passed], "\(silent)")
        let driverless = try controls([up, ready])
        #expect(driverless.map(\.status) == [.passed, .passed, .passed, .passed, .failed, .passed], "\(driverless)")
    }

    @Test func aMachineThatEndedFailsTheLastControl() throws {
        let process = try Command("true", [], environment: ["PATH": "/usr/bin:/bin"]).start(
            output: File("\(folder)/qemu", O_RDWR | O_CREAT))
        while process.poll() == nil { usleep(1000) }
        let box = RunningBox(
            process: process, events: BoxEvents(path: "\(folder)/events"), folder: folder, start: 0, deadline: 0)
        #expect(box.runsToTheEnd.status == .failed)
    }
}
