import CSystem
import Files
import Glibc
import Processes
import Testing

/// What PID 1 does by a unit's words for networks, shares and reloads, and by `once`.
@Suite(.serialized) struct UnitWordsTests {
    @Test func aServiceRunsInItsNetworkNamespace() throws {
        let box = try Sandbox(
            units: [
                "inside": """
                before +/usr/bin/readlink /proc/self/ns/net
                before /usr/bin/readlink /proc/self/ns/net
                command /usr/bin/readlink /proc/self/ns/net
                network other
                user 65534
                restart never

                """,
                "lost": "command /bin/sleep 1000\nnetwork absent\n",
            ],
            setup: "mkdir run/netns; touch run/netns/other; chroot . unshare --net=/run/netns/other true")
        #expect(box.wait("inside", "ended"), "\(box.ask("status") ?? "") \(box.console)")
        let seen = box.read("/run/log/inside").split(separator: "\n").map(String.init)
        var status = stat()
        #expect(stat(box.path("/run/netns/other"), &status) == 0)
        let other = "net:[\(status.st_ino)]"
        #expect(seen.count == 3 && seen.first != other && seen.dropFirst().allSatisfy { $0 == other }, "\(seen)")
        #expect(box.wait(5) { box.service("lost")?[5].contains("open of the network") == true })
        #expect(box.service("lost")?[5].contains("(ENOENT)") == true, "\(box.service("lost") ?? [])")
    }

    @Test func aServiceHasItsShareOfTheCPU() throws {
        let box = try Sandbox(units: [
            "low": "command /bin/sleep 1000\ncpu-weight 7\n", "usual": "command /bin/sleep 1000\n",
        ])
        #expect(box.wait("low", "running") && box.wait("usual", "running"))
        let groups = "/sys/fs/cgroup/services"
        // Where the host lends its tests no CPU controller, there is nothing to set.
        guard FileSystem.exists(box.path("\(groups)/low/cpu.weight")) else { return }
        #expect(box.read("\(groups)/low/cpu.weight") == "7\n")
        #expect(box.read("\(groups)/usual/cpu.weight") == "100\n")
    }

    @Test func onceRunsToItsEndAndAgainAfterAFailureOnly() throws {
        let box = try Sandbox(
            units: [
                "job": "command /usr/lib/test/job\nonce\n", "then": "command /bin/sleep 1000\nafter job\n",
            ],
            scripts: ["job": "#!/bin/sh\necho ran >>/run/job\n[ $(wc -l </run/job) -ge 3 ]\n"])
        #expect(box.wait("then", "running"), "\(box.ask("status") ?? "")")
        #expect(box.service("job")?[1] == "ended" && box.service("job")?[3] == "2")
        sleep(1)
        #expect(box.read("/run/job") == "ran\nran\nran\n")
    }

    @Test func everyFolderOfAServiceIsItsOwn() throws {
        let box = try Sandbox(units: [
            "w":
                "command /usr/bin/touch /run/w/a/x /data/w/x\nuser 65534\ndirectory /run/w/a\ndirectory /data/w\nonce\n"
        ])
        #expect(box.wait("w", "ended"), "\(box.ask("status") ?? "") \(box.read("/run/log/w"))")
        #expect(FileSystem.exists(box.path("/run/w/a/x")) && FileSystem.exists(box.path("/data/w/x")))
    }

    @Test func aReloadIsASignalOrACommand() throws {
        let box = try Sandbox(
            units: [
                "hears": "command /usr/lib/test/hears\nready file /run/hears\nreload signal USR1\n",
                "told":
                    "command /bin/sleep 1000\nuser 65534\nreload command /usr/lib/test/tell ${MAINPID} two\\ words\n",
                "late": "command /usr/lib/test/late\nready file /run/late\nreload command /bin/echo told\n",
                "deaf": "command /bin/sleep 1000\n",
            ],
            scripts: [
                "hears": """
                #!/bin/bash
                trap "echo heard" USR1
                touch /run/hears
                while :; do sleep 0.1; done

                """,
                "tell": """
                #!/bin/sh
                how=$(cat /run/how)
                echo "$1 $2 by $(id -u)"
                case $how in fail) exit 7;; hang) sleep 1000;; esac

                """,
                "late": "#!/bin/sh\nsleep 2\ntouch /run/late\nexec sleep 1000\n",
            ],
            commandLine: "vcpe.interval-divisor=15")
        func outcome(_ name: String) -> String { box.service(name)?[6] ?? "" }
        func reload(_ how: String) throws -> Bool {
            try FileSystem.replace(box.path("/run/how"), with: how, mode: 0o644)
            return box.ask("reload-service told") == "ok\n"
        }
        #expect(box.ask("reload-service late") == "ok\n")
        #expect(box.wait("told", "running") && box.wait("hears", "running") && box.wait("deaf", "running"))
        #expect(outcome("told").isEmpty && box.read("/run/log/late").isEmpty, "it isn't ready yet")
        let pid = box.service("told")?[2] ?? ""

        #expect(box.ask("reload-service hears") == "ok\n" && outcome("hears") == "reloaded")
        #expect(box.wait(3) { box.read("/run/log/hears") == "heard\n" })

        #expect(try reload("well") && box.wait(3) { outcome("told") == "reloaded" }, "\(outcome("told"))")
        #expect(box.read("/run/log/told") == "\(pid) two words by 65534\n")

        #expect(try reload("fail") && box.wait(3) { outcome("told").contains("failed") })
        #expect(outcome("told") == "reload failed: /usr/lib/test/tell ended with 7")
        #expect(box.console.contains("service told: reload: /usr/lib/test/tell ended with 7"))

        // Thirty seconds are two here; a request meanwhile is carried out afterwards.
        #expect(try reload("hang") && outcome("told") == "reloading")
        #expect(try box.wait(1) { box.read("/run/log/told").split(separator: "\n").count == 3 } && reload("well"))
        #expect(box.wait(6) { box.console.contains("/usr/lib/test/tell did not end within 2 s") }, "\(box.console)")
        #expect(box.wait(3) { outcome("told") == "reloaded" }, "\(outcome("told"))")
        #expect(box.service("told")?[2] == pid && box.service("told")?[3] == "0", "the service itself goes on")

        #expect(box.wait("late", "running") && box.wait(3) { box.read("/run/log/late") == "told\n" })
        #expect(box.ask("reload-service deaf") == "error service deaf has no reload in its unit\n")
        #expect(box.ask("reload-service nobody")?.hasPrefix("error there is no service nobody") == true)
        // With the service its reload ends.
        #expect(try reload("hang") && box.ask("stop told") == "ok\n" && box.wait("told", "stopped"))
        #expect(box.wait(5) { box.zombies == 0 } && box.isWell)
    }

    /// A child that does not get to its program in time is killed and waited for: the engine has no
    /// loop that waits for every child.
    @Test func aChildThatGetsNowhereLeavesNoZombie() throws {
        let mount = try FileSystem.makeTemporaryDirectory(in: "/tmp", prefix: "vcpe-cgroup")
        let group = "\(mount)/vcpe-test-frozen-\(getpid())"
        func shell(_ text: String) throws { try Command("bash", ["-c", text]).check() }
        try shell("mount -t cgroup2 none \(mount) && mkdir \(group) && echo 1 >\(group)/cgroup.freeze")
        defer { try? shell("rmdir \(group); umount \(mount); rmdir \(mount)") }
        let folder = open(group, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        defer { close(folder) }
        let before = try Self.zombies()
        var step = [CChar](repeating: 0, count: 28)
        let program = strdup("/bin/true")
        defer { free(program) }
        let arguments: [UnsafeMutablePointer<CChar>?] = [program, nil]
        let result = arguments.withUnsafeBufferPointer { arguments in
            var child = csystem_child()
            child.program = UnsafePointer(program)
            child.arguments = arguments.baseAddress
            child.environment = arguments.baseAddress
            child.cgroup = folder
            (child.output, child.error, child.input) = (-1, -1, -1)
            return csystem_spawn(&child, &step)
        }
        #expect(result == -ETIMEDOUT)
        #expect(try Self.zombies() == before)
    }

    /// Children of this process that ended and are not waited for.
    private static func zombies() throws -> Int {
        try FileSystem.list("/proc").filter { $0.allSatisfy(\.isNumber) }.filter { process in
            let stat = (try? File("/proc/\(process)/stat").read(512, at: 0)) ?? []
            let fields = String(decoding: stat, as: UTF8.self).split(separator: ")").last?.split(separator: " ") ?? []
            return fields.count > 1 && fields[0] == "Z" && fields[1] == "\(getpid())"
        }.count
    }
}
