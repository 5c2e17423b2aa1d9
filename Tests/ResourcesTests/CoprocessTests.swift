import Files
import Glibc
import Processes
import Testing

/// Programs that answer lines with lines.
@Suite struct CoprocessTests {
    /// Lines of standard error.
    private final class Lines {
        var all: [String] = []
    }

    private func shell(_ script: String, limit: Int = 1 << 20, _ lines: Lines = Lines()) throws -> Coprocess {
        try Coprocess("/bin/sh", ["-c", script], limit: limit) { lines.all.append($0) }
    }

    private func ask(_ process: Coprocess, _ text: String = "x", deadline: Double = 20) throws -> String {
        String(decoding: try process.ask(Array(text.utf8), deadline: deadline), as: UTF8.self)
    }

    private func failure(_ process: Coprocess, _ text: String = "x", deadline: Double = 20) -> Coprocess.Failure? {
        do {
            _ = try process.ask(Array(text.utf8), deadline: deadline)
            return nil
        } catch {
            return error
        }
    }

    @Test func eachRequestHasItsAnswer() throws {
        let lines = Lines()
        let process = try shell("while read -r x; do echo \"<$x>\"; echo \"saw $x\" >&2; done; pwd >&2; exit 7", lines)
        for text in ["one", "two", ""] {
            let answer = try ask(process, text)
            #expect(answer == "<\(text)>")
        }
        #expect(process.stop(within: 20) == 7)
        #expect(lines.all == ["saw one", "saw two", "saw ", "/"])
        #expect(failure(process) == .ended(status: 7))
    }

    /// Both sides write more than a pipe holds.
    @Test func longLinesGoBothWays() throws {
        let process = try shell("exec cat", limit: 4 << 20)
        let text = String(repeating: "0123456789abcdef", count: 200_000)
        let answer = try ask(process, text)
        #expect(answer == text)
    }

    @Test func aLateOneIsKilledWithWhatItStarted() throws {
        let folder = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-coprocess")
        defer { try? FileSystem.remove(folder) }
        let process = try shell("sleep 1000 & echo $$ $! >\(folder)/pids; wait")
        let failed = failure(process, deadline: 1)
        #expect(failed == .late(seconds: 1))
        let text = String(decoding: try FileSystem.read("\(folder)/pids"), as: UTF8.self)
        let pids = text.split(whereSeparator: \.isWhitespace).compactMap { pid_t($0) }
        #expect(pids.count == 2)
        for pid in pids {
            // The child's zombie may wait for init.
            for _ in 0..<200 where Self.isRunning(pid) { usleep(10_000) }
            #expect(!Self.isRunning(pid), "\(pid)")
        }
    }

    private static func isRunning(_ pid: pid_t) -> Bool {
        guard let text = try? File("/proc/\(pid)/stat").read(4096, at: 0) else { return false }
        let fields = String(decoding: text, as: UTF8.self).split(separator: ")").last?.split(separator: " ")
        return fields?.first != "Z"
    }

    @Test func whatIsNoAnswerIsAFailure() throws {
        for (script, wanted) in [
            ("read -r x; echo bye >&2; exit 3", .ended(status: 3)), ("kill -9 $$", .ended(status: 128 + 9)),
            ("exec >&-; sleep 1000", .ended(status: nil)),
            ("read -r x; head -c 3000 /dev/zero", .tooLong(limit: 1000)),
            ("read -r x; printf 'a\\nb\\n'; sleep 1000", .unasked("b\n")),
        ] as [(String, Coprocess.Failure)] {
            let process = try shell(script, limit: 1000)
            #expect(failure(process) == wanted, "\(script)")
        }
        let early = try shell("echo early; cat")
        usleep(1_000_000)
        #expect(failure(early) == .unasked("early"))
        #expect(throws: SystemError.self) {
            _ = try Coprocess("/nonexistent", [], limit: 1000) { _ in }
        }
    }

    @Test func aFloodOfErrorsIsCut() throws {
        let lines = Lines()
        let process = try shell("yes 'something is wrong' >&2 & read -r x; sleep 0.5; echo \"$x\"; kill $!", lines)
        let answer = try ask(process)
        #expect(answer == "x")
        process.stop(within: 5)
        #expect(lines.all.last?.contains("the rest is left out") == true)
        #expect(lines.all.count { $0.contains("left out") } == 1 && lines.all.count < 5000)
    }

    @Test func oneThatDoesNotEndIsKilled() throws {
        let process = try shell("read -r x; echo \"$x\"; sleep 1000")
        _ = try ask(process)
        #expect(process.stop(within: 0.2) == nil)
    }
}
