import CSystem
import Files
import Glibc
import Processes
import Testing

/// When PID 1 starts a service again, and what an operator's power-off of a box on trial is.
@Suite(.serialized) struct RestartTests {
    private static func count(_ text: String, in console: String) -> Int {
        console.split(separator: "\n").filter { $0.contains(text) }.count
    }

    @Test func aServiceIsTriedForEverAndReportedOnce() throws {
        let box = try Sandbox(
            units: [
                "crash": "command /usr/lib/test/crash\n", "next": "command /bin/sleep 1000\nafter crash\n",
                "still": "command /bin/sleep 1000\n",
            ],
            scripts: ["crash": "#!/bin/sh\n[ ! -e /run/repaired ] || exec sleep 1000\nexit 3\n"],
            commandLine: "vcpe.interval-divisor=150")
        func restarts() -> Int { Int(box.service("crash")?[3] ?? "") ?? 0 }
        #expect(box.wait("crash", "failed", seconds: 60), "\(box.ask("status") ?? "") \(box.console)")
        #expect(box.service("crash")?[5] == "ended with 3")
        let (before, lines) = (restarts(), Self.count("service crash: ended with 3", in: box.console))
        #expect(lines <= 30)
        // Ten minutes are four seconds here.
        #expect(box.wait(20) { restarts() >= before + 2 }, "\(box.ask("status") ?? "") \(box.console)")
        #expect(box.wait("crash", "failed"))
        #expect(Self.count("service crash: ended with 3", in: box.console) == lines)
        #expect(Self.count("is marked failed", in: box.console) == 1, "\(box.console)")
        #expect(box.wait("next", "running"), "it waits for no service that is marked failed")

        // A retry begins with the shortest delay again, and is not reported again.
        let failed = restarts()
        #expect(box.ask("retry crash") == "ok\n")
        #expect(box.wait(3) { restarts() >= failed + 5 }, "\(box.ask("status") ?? "")")
        #expect(box.wait("crash", "failed", seconds: 60))
        #expect(Self.count("is marked failed", in: box.console) == 1, "\(box.console)")
        try FileSystem.replace(box.path("/run/repaired"), with: "")
        #expect(box.ask("retry crash") == "ok\n" && box.wait("crash", "running", seconds: 2))
        #expect(box.wait(5) { box.console.contains("service crash runs again") }, "\(box.console)")

        // It starts nothing that an operator stopped, and nothing twice.
        let pid = box.service("crash")?[2]
        #expect(box.ask("stop still") == "ok\n" && box.wait("still", "stopped"))
        #expect(box.ask("retry still") == "ok\n" && box.ask("retry crash") == "ok\n")
        sleep(1)
        #expect(box.service("still")?[1] == "stopped" && box.service("crash")?[2] == pid)
        #expect(box.ask("retry nobody")?.hasPrefix("error there is no service nobody") == true)
    }

    @Test func aFileThatHasNoSpaceLeavesTheOldOne() throws {
        let box = try Sandbox(
            setup: """
                mount -t tmpfs -o size=8k tmpfs data
                mkdir data/vcpe
                echo old >data/vcpe/machine-id
                dd if=/dev/zero of=data/filler bs=4096 count=9 2>/dev/null || true
                """)
        #expect(box.isWell)
        #expect(box.read("/data/vcpe/machine-id") == "old\n")
        #expect(
            box.console.contains("the machine's identity can't be kept: /data/vcpe/machine-id.new: write: ")
                && box.console.contains("(ENOSPC)"), "\(box.console)")
        #expect(try !FileSystem.list(box.path("/data/vcpe")).contains("machine-id.new"))
    }

    @Test(arguments: [
        "vcpe.good-after=9223372036854775807 vcpe.trial=-9223372036854775807",
        "vcpe.good-after=99999999999999999999 vcpe.trial=x",
    ])
    func aTimeOfTheCommandLineIsClamped(_ commandLine: String) throws {
        let box = try Sandbox(units: ["a": "command /bin/sleep 1000\n"], commandLine: commandLine)
        #expect(box.wait("a", "running") && box.isWell, "\(box.console)")
    }

    @Test func aPowerOffOnTrialIsNoFailedTrial() throws {
        let box = try Sandbox(
            units: ["slow": "command /usr/lib/test/slow\nready file /run/slow\n"],
            scripts: [
                "slow": """
                #!/bin/bash
                trap "touch /run/end; sleep 1; exit 0" TERM
                touch /run/slow
                while :; do sleep 0.1; done

                """
            ],
            files: [
                "vcpe-updater": """
                #!/bin/sh
                touch /run/examining
                while [ ! -e /run/end ]; do sleep 0.05; done
                exit 1

                """
            ],
            commandLine: "vcpe.good-after=0", setup: "echo trial yes >run/vcpe/boot")
        #expect(box.wait("slow", "running") && box.wait(5) { FileSystem.exists(box.path("/run/examining")) })
        #expect(box.ask("poweroff") == "ok\n")
        #expect(box.wait(20) { kill(box.pid, 0) != 0 })
        #expect(box.console.contains("powering off: a request"), "\(box.console)")
        #expect(!box.console.contains("restarting: "), "\(box.console)")
    }
}
