import Documents
import Files
import Glibc
import Processes

/// A running machine, with its events and its deadline.
struct RunningBox {
    let process: RunningProcess
    let events: BoxEvents
    let folder: String
    /// Monotonic seconds.
    let start: Double
    let deadline: Double

    var isRunning: Bool { process.poll() == nil }
    /// Since power-on.
    var milliseconds: Int { Int((Clock.seconds - start) * 1000) }

    /// Waits until `body` returns a value, with a note every ten seconds.
    ///
    /// - Returns: nil at the deadline, and when the machine ends.
    func wait<Value>(
        _ what: String, _ observe: (ProofRun.Event) -> Void, _ body: () throws -> Value?
    ) throws -> Value? {
        var next = Clock.seconds + 10
        while true {
            if let value = try body() { return value }
            guard Clock.seconds < deadline, isRunning else { return nil }
            if Clock.seconds >= next {
                next += 10
                observe(
                    .note(
                        "\(milliseconds / 1000) of \(Int(deadline - start)) s: waiting for \(what), \(events.last)"))
            }
            usleep(20_000)
        }
    }

    /// A control at the end of a run: a machine that ended earlier drops every packet.
    var runsToTheEnd: ProofRecord.Check {
        let isRunning = isRunning
        return .init(
            "runs to the end", isRunning ? .passed : .failed, seen: isRunning ? "the machine runs" : end)
    }

    /// Why the box has not booted.
    var failure: String { isRunning ? "nothing within \(Int(deadline - start)) s, \(events.last)" : end }

    /// How the machine ended.
    var end: String {
        let output = (try? FileSystem.read("\(folder)/qemu")).map { String(decoding: $0, as: UTF8.self) } ?? ""
        let lines = output.split(whereSeparator: \.isNewline)
        return "the machine ended, \(events.last)" + (lines.last.map { ", QEMU: \($0)" } ?? "")
    }
}
