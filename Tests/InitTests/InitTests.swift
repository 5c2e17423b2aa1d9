import CSystem
import Files
import Glibc
import Processes
import Testing

/// PID 1 in namespaces: what a service is promised, and what it can't break.
@Suite(.serialized) struct InitTests {
    // MARK: - What a service is promised

    @Test func servicesWaitForEachOthersReadiness() throws {
        let box = try Sandbox(
            units: [
                "first": "command /usr/lib/test/first\nready notify\n",
                "second": "command /usr/lib/test/second\nafter first\nready file /run/second-is-ready\n",
                "third": "command /bin/sleep 1000\nafter first second nobody\n",
            ],
            scripts: [
                "first": """
                #!/usr/bin/python3
                import os, socket, time
                def say(text):
                    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(text, os.environ["NOTIFY_SOCKET"])
                time.sleep(1); open("/run/order", "a").write("first\\n"); say(b"STATUS=all well\\nREADY=1")
                time.sleep(1000)
                """,
                "second":
                    "#!/bin/sh\necho second >>/run/order; sleep 0.5; touch /run/second-is-ready; exec sleep 1000\n",
            ])
        #expect(box.service("third")?[1] == "waiting")
        #expect(box.wait("third", "running"), "\(box.ask("status") ?? "") \(box.console)")
        #expect(box.read("/run/order") == "first\nsecond\n")
        #expect(box.service("first")?[5] == "all well")
        // In the other order they end: who others come after is the last.
        #expect(box.ask("restart second") == "ok\n" && box.wait("second", "running"))
        #expect(box.ask("stop nobody")?.hasPrefix("error there is no service nobody") == true)
    }

    @Test func servicesAreWhatTheirUnitSays() throws {
        let box = try Sandbox(
            units: [
                "bound": """
                command /usr/lib/test/show one\\ word \\e last
                user 65534
                group 65534
                groups 7 8
                capabilities net_bind_service
                no-new-privileges
                private-tmp
                read-only /usr/lib/test
                limit nofile 77
                environment COLOUR=red green
                directory /run/bound/deep
                oom-score-adjust 321
                restart never
                """
            ],
            scripts: [
                "show": """
                #!/bin/sh
                exec >/run/bound/deep/seen 2>&1
                echo "$# $1|$2|$3"
                id -u; id -G
                grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status
                touch /usr/lib/test/x && echo wrote || echo read-only
                grep -c ' /tmp ' /proc/self/mounts
                ulimit -n
                echo "$COLOUR"
                cat /proc/self/oom_score_adj
                """
            ])
        #expect(box.wait("bound", "ended"), "\(box.ask("status") ?? "") \(box.console)")
        let seen = box.read("/run/bound/deep/seen").split(separator: "\n").map(String.init)
        #expect(seen.starts(with: ["3 one word||last", "65534", "65534 7 8"]), "\(seen)")
        #expect(seen.contains { $0.hasPrefix("CapEff:") && $0.hasSuffix("0000000000000400") }, "\(seen)")
        #expect(seen.contains { $0.hasPrefix("CapBnd:") && $0.hasSuffix("0000000000000400") })
        #expect(seen.contains { $0.hasPrefix("NoNewPrivs:") && $0.hasSuffix("1") })
        #expect(
            seen.suffix(5).dropFirst().starts(with: ["2", "77", "red green", "321"]) && seen.contains("read-only"),
            "\(seen)")
    }

    @Test func fallenServicesComeBackEverLaterAndStoppedOnesDont() throws {
        let box = try Sandbox(
            units: [
                "crash": "command /usr/lib/test/crash\n", "once": "command /bin/true\nrestart on-failure\n",
                "stubborn": "command /usr/lib/test/stubborn\nstop-timeout 1\nready file /run/stubborn\n",
                "family": "command /usr/lib/test/family\n",
            ],
            scripts: [
                "crash": "#!/bin/sh\ndate +%s.%N >>/run/starts\nexit 3\n",
                "stubborn": "#!/bin/bash\ntrap '' TERM\ntouch /run/stubborn\nwhile :; do sleep 1; done\n",
                "family": "#!/bin/sh\nsleep 2000 &\nsetsid sleep 3000 &\nexec sleep 1000\n",
            ])
        #expect(box.wait("once", "ended") && box.wait("stubborn", "running") && box.wait("family", "running"))
        #expect(box.wait(8) { Int(box.service("crash")?[3] ?? "") ?? 0 >= 4 })
        let starts = box.read("/run/starts").split(separator: "\n").compactMap { Double($0) }
        let pauses = zip(starts.dropFirst(), starts).map { $0 - $1 }
        #expect(pauses.count >= 3 && zip(pauses.dropFirst(), pauses).allSatisfy { $0 > $1 * 1.3 }, "\(pauses)")
        #expect(box.service("crash")?[5] == "ended with 3")
        // Who doesn't end when asked is killed in his time.
        let begin = Sandbox.now
        #expect(box.ask("stop stubborn") == "ok\n" && box.wait("stubborn", "stopped"))
        #expect(Sandbox.now - begin > 0.9 && Sandbox.now - begin < 4)
        // All that a service has started goes with it, whatever session it is in.
        func sleepers() throws -> Int {
            try FileSystem.list(box.path("/proc")).filter {
                box.commandLine($0).contains("sleep\0" + "2000") || box.commandLine($0).contains("sleep\0" + "3000")
            }.count
        }
        #expect(try box.wait(3) { (try? sleepers()) == 2 } || sleepers() == 2)
        #expect(box.ask("stop family") == "ok\n" && box.wait("family", "stopped"))
        #expect(box.wait(3) { (try? sleepers()) == 0 })
        #expect(box.ask("start stubborn") == "ok\n" && box.wait("stubborn", "running"))
    }

    @Test func aServiceWithoutASignOfLifeIsStartedAnew() throws {
        let box = try Sandbox(
            units: [
                "silent": "command /bin/sleep 1000\nwatchdog 1\n",
                "late": "command /bin/sleep 1000\nready notify\nready-timeout 1\n",
            ])
        #expect(box.wait(6) { Int(box.service("silent")?[3] ?? "") ?? 0 >= 1 }, "\(box.ask("status") ?? "")")
        #expect(box.wait(6) { Int(box.service("late")?[3] ?? "") ?? 0 >= 1 })
        #expect(box.console.contains("service silent gives no sign of life for 1 s: killed"))
    }

    /// What services taken over from systemd units need: commands before the service's own, daemons
    /// that fork, commands that end, conditions, a working directory, a umask.
    @Test func aServiceStartsAsASystemdUnitSays() throws {
        let box = try Sandbox(
            units: [
                "prepared": """
                command /usr/lib/test/show
                before -/bin/false
                before -/bin/none
                before /usr/lib/test/note first
                before +/usr/lib/test/note second
                user 65534
                group 65534
                working-directory /tmp
                umask 27
                directory /run/out
                """,
                "unprepared": "command /usr/lib/test/note never\nbefore /bin/false\nrestart never\n",
                "forked": "command /usr/lib/test/fork\nready forked /run/forked.pid\nstop-signal QUIT\n",
                "completed": """
                command /usr/lib/test/fork
                ready forked
                after-start -/bin/false
                after-start /usr/lib/test/note completed
                after-start +/usr/lib/test/note completed-by-root
                user 65534
                group 65534
                """,
                "uncompleted": "command /bin/sleep 1000\nafter-start /bin/false\nrestart never\n",
                "twice": "command /usr/lib/test/twice\nready forked\n",
                "family": "command /usr/lib/test/family\nstop-all\n",
                "lost": "command /bin/true\nready forked\nrestart never\n",
                "once":
                    "command /usr/lib/test/once\nready exited\nrestart never\nafter-start /usr/lib/test/note once-done\n",
                "afterwards": "command /usr/lib/test/afterwards\nafter once\nrestart never\n",
                "unmet": "command /bin/sleep 1000\ncondition exists /etc/none\n",
                "met": """
                command /bin/sleep 1000
                condition !exists /etc/none
                condition not-empty /etc/passwd
                condition filled-directory /usr
                """,
            ],
            scripts: [
                "note": "#!/bin/sh\nid -u >/tmp/$1\n",
                "show": "#!/bin/sh\n(umask; pwd) >/run/out/show\nexec sleep 1000\n",
                // The pid file is written after the first process has exited, and names the second
                // daemon.
                "fork": """
                #!/bin/bash
                sleep 1000 &
                (
                    trap 'echo quit >/run/quit; exit 0' QUIT
                    sleep 0.5
                    echo $BASHPID >/run/forked.pid
                    while :; do sleep 0.1; done
                ) &

                """,
                "twice": "#!/bin/bash\n(sleep 0.5; sleep 1000 & exit 0) &\n",
                "family": """
                #!/bin/bash
                (trap 'sleep 1; echo child ended >/run/child; exit 0' TERM; echo ready >/run/child; while :; do sleep 0.1; done) &
                trap 'exit 0' TERM
                while :; do sleep 0.1; done

                """,
                "once": "#!/bin/sh\nsleep 1\ntouch /run/done\n",
                "afterwards": "#!/bin/sh\n[ -e /run/done ] && echo in order >/run/order\n",
            ])
        #expect(box.wait("prepared", "running") && box.wait("met", "running"), "\(box.ask("status") ?? "")")
        #expect(box.wait(5) { box.read("/run/out/show") == "0027\n/tmp\n" }, "\(box.read("/run/out/show"))")
        #expect(box.read("/tmp/first") == "65534\n" && box.read("/tmp/second") == "0\n")
        #expect(box.wait("unprepared", "ended") && box.read("/tmp/never").isEmpty)
        #expect(box.service("unprepared")?[5] == "/bin/false ended with 1")
        #expect(box.wait("completed", "running"), "\(box.service("completed") ?? [])")
        #expect(box.read("/tmp/completed") == "65534\n" && box.read("/tmp/completed-by-root") == "0\n")
        #expect(box.wait("uncompleted", "ended"))
        #expect(box.service("uncompleted")?[5] == "/bin/false ended with 1")
        #expect(box.wait("lost", "ended") && box.service("lost")?[5] == "it left no process")
        #expect(box.wait("afterwards", "ended") && box.read("/run/order") == "in order\n")
        #expect(box.service("once")?[1] == "ended" && box.service("once")?[3] == "0")
        #expect(box.service("unmet")?[1] == "ended")
        #expect(box.service("unmet")?[5] == "condition not met: exists /etc/none")

        #expect(box.wait("forked", "running"))
        let named = try #require(box.outside(box.service("forked")?[2]))
        #expect(box.read("/run/forked.pid") == "\(box.service("forked")?[2] ?? "")\n")
        #expect(box.service("forked")?[3] == "0", "it never had to be restarted")
        #expect(box.ask("stop forked") != nil)
        #expect(box.wait("forked", "stopped") && box.read("/run/quit") == "quit\n")
        // With its main process the rest of a service ends.
        #expect(box.wait(5) { kill(named, 0) != 0 })
        // A daemon that forks twice has no pid file, and its second process exits when the service
        // runs already.
        #expect(box.wait("twice", "running") && box.service("twice")?[3] == "0", "\(box.service("twice") ?? [])")
        #expect(box.read("/tmp/once-done") == "0\n")
        // Every process gets the signal and the time.
        #expect(box.wait("family", "running") && box.wait(5) { box.read("/run/child") == "ready\n" })
        #expect(box.ask("stop family") != nil)
        #expect(box.wait("family", "stopped") && box.read("/run/child") == "child ended\n")
    }

    /// A directory of the root that is listed as writable has the image's files and takes others.
    @Test func listedDirectoriesAreWritable() throws {
        let box = try Sandbox(
            units: ["w": "command /usr/lib/test/write\nrestart never\n"],
            scripts: [
                "write": """
                #!/bin/sh
                echo new >/etc/new
                mountpoint /etc; ls /etc/passwd; ls /mnt

                """
            ], files: ["writable": "/etc\n"])
        #expect(box.wait("w", "ended"))
        #expect(box.read("/run/log/w") == "/etc is a mountpoint\n/etc/passwd\n", "\(box.read("/run/log/w"))")
        #expect(box.read("/etc/new") == "new\n")
    }

    /// What a service sends by syslog(3) is in its log.
    @Test func syslogGoesToTheServicesLog() throws {
        let box = try Sandbox(
            units: ["talker": "command /usr/lib/test/talk\nuser 65534\ngroup 65534\nrestart never\n"],
            scripts: [
                "talk": """
                #!/usr/bin/python3
                import socket
                s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                s.connect("/dev/log")
                for text in [b"<30>Dec  1 04:20:16 talker[7]: one\\0", b"<30>talker: two\\nlines\\n", b"three", b"<30>"]:
                    s.send(text)

                """
            ])
        #expect(
            box.wait(5) { box.read("/run/log/talker") == "talker[7]: one\ntalker: two lines\nthree\n\n" },
            "\(box.read("/run/log/talker")) \(box.read("/run/log/syslog"))")
    }

    @Test func aReloadTouchesOnlyWhatChanged() throws {
        let box = try Sandbox(units: ["image": "command /bin/sleep 1000\n"])
        func unit(_ seconds: Int) -> [UInt8] { Array("command /bin/sleep \(seconds)\n".utf8) }
        #expect(
            try box.load(["a": unit(1001), "b": unit(1002), "image": unit(1)])?.contains(
                "the image has one of that name") == true)
        #expect(box.wait("a", "running") && box.wait("b", "running"))
        let before = (box.service("a")?[2], box.service("b")?[2], box.service("image")?[2])
        #expect(try box.load(["a": unit(1001), "b": unit(1003), "c": unit(1004)]) == "ok\n")
        #expect(
            box.wait("c", "running")
                && box.wait(5) { box.service("b")?[2] != before.1 && box.service("b")?[1] == "running" })
        #expect(box.service("a")?[2] == before.0 && box.service("image")?[2] == before.2)
        #expect(try box.load([:]) == "ok\n")
        #expect(box.wait(5) { box.service("a") == nil && box.service("c") == nil })
        #expect(box.service("image")?[2] == before.2)
    }

    @Test func aUnitThatIsOnceMoreWhatItWasComesBack() throws {
        let box = try Sandbox(scripts: [
            "slow": "#!/bin/bash\ntrap 'sleep 1; exit 0' TERM\ntouch /run/slow\nwhile :; do sleep 0.1; done\n"
        ])
        func unit(_ word: String) -> [UInt8] {
            Array("command /usr/lib/test/slow \(word)\nready file /run/slow\n".utf8)
        }
        for back in [unit("one"), unit("three")] {
            _ = try box.load(["slow": unit("one")])
            #expect(box.wait("slow", "running"))
            let before = box.service("slow")?[2]
            // While the old process still ends.
            _ = try box.load(["slow": unit("two")])
            _ = try box.load(["slow": back])
            #expect(box.wait(5) { box.service("slow")?[2] != before && box.service("slow")?[1] == "running" })
        }
        // The same when it was gone in between.
        _ = try box.load([:])
        _ = try box.load(["slow": unit("three")])
        #expect(box.wait(3) { box.service("slow")?[1] == "stopping" } && box.wait("slow", "running"))
        // And when an operator wants it back.
        let before = box.service("slow")?[2]
        #expect(box.ask("stop slow") == "ok\n" && box.ask("start slow") == "ok\n")
        #expect(box.wait(5) { box.service("slow")?[2] != before && box.service("slow")?[1] == "running" })
    }

    @Test func aUnitThatCantBeReadKeepsItsService() throws {
        let box = try Sandbox()
        let good = Array("command /bin/sleep 1000\n".utf8)
        #expect(try box.load(["a": good, "b": good]) == "ok\n" && box.wait("a", "running") && box.wait("b", "running"))
        let before = box.service("a")?[2]
        #expect(try box.load(["a": Array("comand /bin/sleep 1000\n".utf8)])?.contains("unknown word") == true)
        #expect(box.wait(5) { box.service("b") == nil })
        #expect(box.service("a")?[1] == "running" && box.service("a")?[2] == before)
        // A folder that is none says nothing about what is wanted.
        try FileSystem.remove(box.path("/run/vcpe/units"))
        try FileSystem.replace(box.path("/run/vcpe/units"), with: "")
        #expect(box.ask("reload")?.contains("(ENOTDIR)") == true)
        #expect(box.service("a")?[1] == "running" && box.service("a")?[2] == before)
    }

    @Test func aServiceRunsWithItsBoundsOrNotAtAll() throws {
        let box = try Sandbox()
        let unit = Array("command /bin/sleep 1000\n".utf8)
        let groups = box.path("/sys/fs/cgroup/services")
        func write(_ text: String, _ file: String) throws {
            try File("\(groups)/\(file)", O_WRONLY).write(Array(text.utf8), at: 0)
        }
        // PID 1 listens before it has mounted everything.
        #expect(box.wait(5) { FileSystem.exists("\(groups)/cgroup.max.descendants") })
        // No group can be made.
        try write("0", "cgroup.max.descendants")
        #expect(try box.load(["bound": unit]) == "ok\n")
        #expect(box.wait(5) { box.console.contains("service bound: /sys/fs/cgroup/services/bound") }, "\(box.console)")
        #expect(box.service("bound")?[2] == "0")
        try write("max", "cgroup.max.descendants")
        #expect(box.wait("bound", "running"))
        // A child that gets nowhere: PID 1 gives it up and goes on.
        try FileSystem.makeDirectory("\(groups)/frozen")
        try write("1", "frozen/cgroup.freeze")
        #expect(try box.load(["bound": unit, "frozen": unit]) == "ok\n")
        sleep(6)
        #expect(box.wait(10) { box.ask("status") != nil })
        #expect(box.wait(10) { box.console.contains("(ETIMEDOUT)") }, "\(box.console)")
        try write("0", "frozen/cgroup.freeze")
        #expect(box.wait("frozen", "running", seconds: 20) && box.zombies == 0 && box.isWell)
    }

    @Test func aCircleOfWaitersIsBroken() throws {
        let box = try Sandbox(units: [
            "a": "command /bin/sleep 1000\nafter b\n", "b": "command /bin/sleep 1000\nafter c\n",
            "c": "command /bin/sleep 1000\nafter a\n",
        ])
        #expect(box.wait("a", "running") && box.wait("b", "running") && box.wait("c", "running"))
        #expect(box.console.contains("wait for each other"))
    }

    @Test func servicesEndInOrderWhenTheBoxDoes() throws {
        let box = try Sandbox(
            units: [
                "base": "command /usr/lib/test/leave base\nready file /run/base\n",
                "upon": "command /usr/lib/test/leave upon\nafter base\nready file /run/upon\n",
            ],
            scripts: [
                "leave":
                    "#!/bin/bash\ntrap 'sleep 0.3; echo $1 >>/run/left; exit 0' TERM\ntouch /run/$1\nwhile :; do sleep 0.1; done\n"
            ])
        #expect(box.wait("upon", "running"))
        let folder = try File(box.path("/run"))
        #expect(box.ask("reboot") == "ok\n")
        #expect(box.wait(10) { kill(box.pid, 0) != 0 })
        let file = openat(folder.descriptor, "left", O_RDONLY)
        #expect(file >= 0)
        if file >= 0 { #expect(try File(descriptor: file, path: "left").readAll() == Array("upon\nbase\n".utf8)) }
    }
}
