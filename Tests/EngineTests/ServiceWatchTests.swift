@testable import Engine
import Planning
import PluginKit
import Testing

/// When a service fails a commit, by the states that PID 1 reports.
@Suite struct ServiceWatchTests {
    private static let name = "a-b"
    private static var logs: ServiceLogs { ServiceLogs(folder: "/nonexistent") }
    /// Some time of the kernel's.
    private let start = Uptime.milliseconds

    private func state(
        _ state: String, pid: Int = 0, restarts: Int = 0, end: String = ""
    ) -> InitClient.Service {
        InitClient.Service(
            name: Self.name, state: state, pid: pid, restarts: restarts, memory: 0, status: "", lastEnd: end)
    }

    private func watching(
        isChanged: Bool = true, ready: Bool = false, before: InitClient.Service? = nil,
        earlier: ServiceWatch = ServiceWatch()
    ) -> ServiceWatch {
        let service = Resource(
            ServiceResource(name: Self.name, command: ["/bin/true"], readiness: ready ? .notify : .started))
        let plan = Plan([PlannedResource(resource: service, plugin: "a", line: service.json.line)])
        return ServiceWatch(
            plan, changed: isChanged ? [service] : [], earlier: earlier, before: before.map { [$0] } ?? [],
            logs: Self.logs)
    }

    @Test func aServiceIsGoodWhenItHasRunForAWhile() {
        var watch = watching()
        #expect(watch.take([state("starting", pid: 5)], now: start) == [] && !watch.isGood)
        #expect(watch.take([state("running", pid: 5)], now: start + 100) == [] && !watch.isGood)
        #expect(watch.take([state("running", pid: 5)], now: start + 2000) == [] && !watch.isGood)
        #expect(watch.take([state("running", pid: 5)], now: start + 2100) == [] && watch.isGood)
    }

    @Test func twoExitsInARowFail() {
        var watch = watching()
        #expect(watch.take([state("running", pid: 5)], now: start) == [])
        #expect(watch.take([state("pausing", restarts: 1, end: "ended with 1")], now: start + 1500) == [])
        #expect(watch.take([state("running", pid: 6, restarts: 1)], now: start + 1700) == [])
        let failures = watch.take([state("pausing", restarts: 2, end: "ended with 1")], now: start + 3600)
        #expect(failures == [.init(name: Self.name, reason: "ended with 1", exits: 2)])
    }

    /// Also between two questions, when it runs again.
    @Test func exitsThatNoQuestionSawFail() {
        var watch = watching(before: state("running", pid: 4, restarts: 7))
        let failures = watch.take([state("running", pid: 9, restarts: 9, end: "ended with 1")], now: start)
        #expect(failures.map(\.exits) == [2])
    }

    /// While a commit waits for its confirmation: a long run and the end of a console's session do.
    @Test(arguments: [(2500, "ended with 1", 2), (31_000, "ended with 1", 3), (2500, "ended with 0", 3)])
    func someRunsForgiveTheExitsBefore(_ run: Int, _ end: String, _ runs: Int) {
        var (watch, time, failures) = (watching(), start, 0)
        for number in 0..<runs {
            let (pid, last) = (5 + number, number == 0 ? "" : end)
            #expect(watch.take([state("running", pid: pid, restarts: number, end: last)], now: time) == [])
            #expect(watch.take([state("running", pid: pid, restarts: number, end: last)], now: time + run) == [])
            failures += watch.take([state("pausing", restarts: number + 1, end: end)], now: time + run + 300).count
            time += run + 500
        }
        #expect(failures == (runs == 2 ? 1 : 0))
    }

    /// PID 1 counts a unit that changed from 0, and the old process may take its time to end.
    @Test func theOldProcessDoesNotCount() {
        var watch = watching(before: state("running", pid: 4, restarts: 7))
        #expect(watch.take([state("stopping", pid: 4, restarts: 7)], now: start) == [])
        #expect(watch.take([state("stopping", pid: 4, restarts: 7)], now: start + 9000) == [] && !watch.isGood)
        #expect(watch.take([state("running", pid: 8)], now: start + 9200) == [])
        #expect(watch.take([state("pausing", restarts: 1)], now: start + 9400) == [])
        #expect(watch.take([state("pausing", restarts: 2)], now: start + 9800).count == 1)
    }

    @Test func aServiceThatIsReadyIsGoodAtOnce() {
        var watch = watching(ready: true, before: state("running", pid: 4))
        // The old process has been ready for long.
        #expect(watch.take([state("running", pid: 4)], now: start) == [] && !watch.isGood)
        #expect(watch.take([state("starting", pid: 5)], now: start + 1000) == [] && !watch.isGood)
        #expect(watch.take([state("running", pid: 5)], now: start + 1200) == [] && watch.isGood)
        let failures = watch.take([state("pausing", restarts: 1, end: "never ready")], now: start + 9000)
        #expect(failures == [.init(name: Self.name, reason: "never ready", exits: 1)])
    }

    @Test func onlyWhatRanOrChangesIsWatched() {
        #expect(watching(isChanged: false, before: state("pausing", restarts: 3)).isEmpty)
        #expect(watching(isChanged: false).isEmpty)
        #expect(!watching(isChanged: false, before: state("running", pid: 4)).isEmpty)
        #expect(!watching(before: state("failed", restarts: 30)).isEmpty)
        // Of a commit that comes before the last one is known to stand.
        #expect(!watching(isChanged: false, before: state("pausing", restarts: 1), earlier: watching()).isEmpty)
    }

    /// An operator stops it, or another service that it waits for never is ready.
    @Test func whatNeverRanHoldsNoCommitForEver() {
        var stopped = watching()
        #expect(stopped.take([state("stopped", restarts: 9)], now: start) == [] && stopped.isGood)
        var waiting = watching()
        #expect(waiting.take([state("waiting")], now: start + 100_000) == [] && !waiting.isGood)
        #expect(waiting.take([state("waiting")], now: start + 130_000) == [] && waiting.isGood)
    }

    @Test func excerptsAreBoundedAndHarmless() {
        let lines = (1...9).map { "line \($0)" }
        #expect(Excerpt.last(of: Array(lines.joined(separator: "\n").utf8)) == Array(lines.suffix(5)))
        #expect(Excerpt.last(of: Array("\u{1b}[2J\u{202e}x\ty\n".utf8)) == ["\\x1b[2J\\u{202e}x y"])
        #expect(Excerpt.last(of: [0xFF, 0x41]) == ["\\xffA"])
        let long = Excerpt.last(of: [UInt8](repeating: 0x78, count: 100_000))
        #expect(long.count == 1 && long[0].utf8.count < 300)
        let many = (1...5000).map { "line \($0)" }
        let ends = Excerpt.ends(of: Array(many.joined(separator: "\n").utf8))
        #expect(ends == Array(many.prefix(5)) + ["…"] + Array(many.suffix(5)))
    }
}
