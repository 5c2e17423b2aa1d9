import CSystem
import Files
import Glibc
import Processes
import TestSupport
import Testing

/// What a service can't break.
extension InitTests {
    @Test func tenThousandChildrenAndOrphansAreReaped() throws { try Self.reap(10_000) }

    /// A service that makes `count` children, each of which leaves an orphan to PID 1.
    fileprivate static func reap(_ count: Int) throws {
        let box = try Sandbox(
            units: ["forks": "command /usr/lib/test/forks\nrestart never\n"],
            scripts: [
                "forks": """
                #!/usr/bin/python3
                import os
                for i in range(\(count)):
                    pid = os.fork()
                    if pid == 0:
                        if os.fork() == 0: os._exit(i % 256)
                        os._exit(0)
                    os.waitpid(pid, 0)
                open("/run/done", "w").write("yes")
                """
            ])
        var answers = 0
        #expect(
            box.wait(240) {
                if box.ask("status") != nil { answers += 1 }
                return FileSystem.exists(box.path("/run/done"))
            })
        #expect(answers > 5)
        #expect(box.wait(5) { box.zombies == 0 } && box.isWell)
    }

    @Test func endlessLogsStaySmallAndStopNobody() throws {
        let box = try Sandbox(units: [
            "talker": "command /usr/bin/yes a-line-that-says-nothing\n", "quiet": "command /bin/sleep 1000\n",
        ])
        #expect(box.wait("talker", "running"))
        for _ in 0..<20 {
            let begin = Sandbox.now
            #expect(box.ask("status") != nil && Sandbox.now - begin < 1)
            usleep(100_000)
        }
        let sizes = ["talker", "talker.1"].map { box.read("/run/log/\($0)").utf8.count }
        // One of the two may be in the making.
        #expect(sizes.contains { $0 > 0 } && sizes.allSatisfy { $0 <= 300_000 }, "\(sizes)")
        #expect(box.ask("stop talker") == "ok\n" && box.wait("talker", "stopped") && box.isWell)
    }

    @Test func aServiceThatClosesAllItsFilesIsLeftAlone() throws {
        let box = try Sandbox(
            units: ["mute": "command /usr/lib/test/mute\n"],
            scripts: ["mute": "#!/bin/bash\nexec <&- >&- 2>&-\nexec sleep 1000\n"])
        #expect(box.wait("mute", "running"))
        func ticks() throws -> Int {
            let stat = String(decoding: try File("/proc/\(box.pid)/stat").read(512, at: 0), as: UTF8.self)
            let fields = stat.split(separator: ")").last?.split(separator: " ") ?? []
            return fields[11...12].compactMap { Int($0) }.reduce(0, +)
        }
        let before = try ticks()
        sleep(3)
        // An end that is always ready to be read must not keep PID 1 busy: less than 0.3 s of 3.
        #expect(try ticks() - before < 30 && box.service("mute")?[1] == "running" && box.isWell)
    }

    @Test func withoutDescriptorsItWaitsAndGoesOn() throws {
        let box = try Sandbox(units: ["crash": "command /bin/false\n", "steady": "command /bin/sleep 1000\n"])
        #expect(box.wait("steady", "running"))
        let pid = "\(box.pid)"
        try Command("prlimit", ["--pid", pid, "--nofile=\(box.openFiles):4096"]).check()
        _ = box.ask("restart steady")
        sleep(3)
        try Command("prlimit", ["--pid", pid, "--nofile=1024:4096"]).check()
        #expect(
            box.wait(10) { box.service("steady")?[1] == "running" },
            "\(box.ask("status") ?? "no answer") \(box.console)")
        #expect(box.isWell)
    }

    /// An event of a log that was closed, when a caller has the descriptor already: it must not cost
    /// the caller its answer.
    @Test func aCallerDoesNotPayForALogThatIsClosed() throws {
        let names = ["a", "b", "c", "d", "e"]
        let box = try Sandbox(
            units: Dictionary(uniqueKeysWithValues: names.map { ($0, "command /bin/sleep 1000\nrestart never\n") }))
        #expect(box.wait(10) { names.allSatisfy { box.service($0)?[1] == "running" } })
        let processes = try names.map { name in try #require(box.outside(box.service(name)?[2])) }
        #expect(kill(box.pid, SIGSTOP) == 0)
        // In the order in which PID 1 meets them: the end of a service, callers, the closed logs of
        // the services whose ends are met together with the first.
        #expect(kill(processes[4], SIGKILL) == 0)
        usleep(100_000)
        let callers = (0..<8).map { _ in box.connect("/run/vcpe/init.sock", inPackets: true) }
        for process in processes.prefix(4) { #expect(kill(process, SIGKILL) == 0) }
        usleep(100_000)
        #expect(kill(box.pid, SIGCONT) == 0)
        usleep(300_000)
        for caller in callers {
            #expect(caller >= 0)
            #expect(box.ask("status", by: caller)?.hasSuffix("ok\n") == true)
        }
        #expect(box.isWell)
    }

    @Test func garbageInUnitsAndMessagesIsSaidAndSurvived() throws {
        let box = try Sandbox(units: ["steady": "command /bin/sleep 1000\n"])
        var random = Random(seed: 7)
        for round in 0..<10 {
            let answer = try box.loadGarbage("u\(round)", &random)
            #expect(answer?.hasSuffix("ok\n") == true && answer?.contains("problem ") == true)
        }
        #expect(box.service("steady")?[1] == "running" && box.isWell)
        #expect(try box.load(["huge": [UInt8](repeating: 65, count: 200_000)])?.contains("more than") == true)
        box.sayGarbage(10_000, &random)
        // Callers that say nothing, and hold the line.
        let silent = (0..<50).map { _ in csystem_connect_unix(box.path("/run/vcpe/init.sock"), 1) }
        #expect(box.isWell)
        for connection in silent where connection >= 0 { close(connection) }
        #expect(box.wait("steady", "running") && box.zombies == 0 && box.openFiles < 40, "\(box.openFiles)")
    }
}

/// The same without end.
@Suite(.serialized) struct InitTorture {
    @Test func children() throws {
        try InitTests.reap(100_000)
        try Torture.note("children and orphans of one service", checked: 100_000, failed: 0)
    }

    @Test func garbage() throws {
        let box = try Sandbox(units: ["steady": "command /bin/sleep 1000\n"])
        var random = Random(seed: Torture.seed)
        let pid = box.service("steady")?[2]
        var (checked, failed) = (0, 0)
        for round in 0..<60 {
            _ = try box.loadGarbage("u\(round)", &random)
            box.sayGarbage(10_000, &random)
            checked += 10_200
            if !box.isWell || box.service("steady")?[2] != pid { failed += 1 }
        }
        #expect(failed == 0 && box.wait(30) { box.zombies == 0 }, "\(box.console.suffix(2000))")
        try Torture.note("garbage units and messages for PID 1", checked: checked, failed: failed)
    }
}

extension Sandbox {
    private static let words = [
        "command", "user", "group", "groups", "restart", "environment", "directory", "capabilities", "limit", "memory",
        "processes", "after", "ready", "watchdog", "stop-timeout", "read-only", "oom-score-adjust", "essential",
        "stamp",
    ]

    /// Loads two hundred units: bytes by chance, and lines that are nearly right.
    func loadGarbage(_ prefix: String, _ random: inout Random) throws -> String? {
        var units: [String: [UInt8]] = [:]
        for i in 0..<200 {
            var bytes: [UInt8] = []
            if i % 2 == 0 {
                bytes = (0..<random.next(400)).map { _ in UInt8(truncatingIfNeeded: random.next(256)) }
            } else {
                bytes = Array("command /bin/true\nrestart never\n".utf8)
                for _ in 0..<random.next(6) {
                    let value = (0..<random.next(20)).map { _ in UInt8(32 + random.next(95)) }
                    bytes += Array(Self.words[random.next(Self.words.count)].utf8) + [32] + value + [10]
                }
            }
            units["\(prefix)-\(i)"] = bytes
        }
        return try load(units)
    }

    /// Says as much nonsense, on both sockets.
    func sayGarbage(_ count: Int, _ random: inout Random) {
        for i in 0..<count {
            let bytes = (0..<random.next(300)).map { _ in UInt8(truncatingIfNeeded: random.next(256)) }
            if i % 10 == 0 {
                _ = ask(bytes)
            } else {
                _ = csystem_send_datagram(path("/run/vcpe/notify"), bytes, bytes.count)
            }
        }
    }
}

extension Sandbox {
    func commandLine(_ process: String) -> String {
        (try? File(path("/proc/\(process)/cmdline")).read(512, at: 0)).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }
}
