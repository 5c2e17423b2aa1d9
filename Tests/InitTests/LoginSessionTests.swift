import Documents
import Files
import PluginKit
import Testing

/// Users with many sessions, and users who lose their role, on PID 1 and the engine.
@Suite(.serialized) struct LoginSessionTests {
    private static let user = 5001

    /// As sshd: ten processes of a user, each of which announces itself and stays.
    private static let door = """
        #!/usr/bin/python3
        import json, os, signal, socket, time
        def session(number):
            os.setgroups([\(Role.readOnly.group.number), \(Role.operator.group.number)]); os.setgid(\(user)); os.setuid(\(user))
            s = socket.socket(socket.AF_UNIX); s.connect("/run/vcpe/api/engine.sock")
            s.send(b'{"do": "session"}\\n'); answer = s.recv(4096).decode()
            group = open("/proc/self/cgroup").read()
            adjustment = open("/proc/self/oom_score_adj").read()
            open("/run/door/%d" % number, "w").write(json.dumps([answer, group, adjustment]))
            signal.pause()
        os.mkdir("/run/door"); os.chmod("/run/door", 0o777)
        time.sleep(1)
        for number in range(10):
            if os.fork() == 0: session(number)
            while not os.path.exists("/run/door/%d" % number): time.sleep(0.02)
        open("/run/door/done", "w").write("x")
        while True:
            try: pid, status = os.wait()
            except ChildProcessError: break
            open("/run/door/ended", "a").write("%d %d\\n" % (pid, status))
        signal.pause()

        """

    @Test func sessionsAreApartFromTheDaemonAndEndWithTheRole() throws {
        let box = try Sandbox(
            units: [
                "engine": "command /usr/lib/vcpe/vcpe-engine\nready notify\naccess init\n",
                "door": "command /usr/lib/test/door\nafter engine\naccess login\n",
            ], scripts: ["door": Self.door], files: ["plugins/none": ""],
            setup: """
                echo "rita:x:\(Self.user):\(Self.user)::/:/bin/false" >>etc/passwd
                echo "\(Role.readOnly.group.name):x:\(Role.readOnly.group.number):rita" >>etc/group
                echo "\(Role.operator.group.name):x:\(Role.operator.group.number):rita" >>etc/group
                """)
        #expect(
            box.wait(20) { !box.read("/run/door/done").isEmpty },
            "\(box.read("/run/log/door")) \(box.read("/run/log/engine"))")
        var refused = 0
        for number in 0..<10 {
            let result = try JSON.parse(box.read("/run/door/\(number)")).list ?? []
            try #require(result.count == 3)
            let isWithin = result[1].text?.contains("0::/sessions/\(Self.user)/") == true
            if try JSON.parse(result[0].text ?? "")["error"] == nil {
                #expect(isWithin && result[2].text == "500\n", "\(result)")
            } else {
                refused += 1
                #expect(result[1].text?.contains("0::/services/door/") == true, "\(result)")
            }
        }
        #expect(refused == 2)
        #expect(box.ask("sessions") == "session \(Self.user) 8\nok\n")
        // Nobody but the engine moves processes, and only those of a service that logs users in.
        #expect(box.ask("session \(Self.user) 1")?.hasPrefix("error ") == true)
        #expect(box.ask("session 0 1")?.hasPrefix("error ") == true)
        #expect(box.service("door")?[1] == "running")

        // What the user may do less than at the login ends all of it, also under a new engine.
        let engine = box.service("engine")?[2]
        #expect(box.ask("restart engine") == "ok\n")
        #expect(
            box.wait(20) {
                box.service("engine").map { $0[1] == "running" && $0[2] != engine } == true
            }, "\(box.read("/run/log/engine"))")
        #expect(box.ask("sessions") == "session \(Self.user) 8\nok\n")
        let lower = "\(Role.readOnly.group.name):x:\(Role.readOnly.group.number):rita\n"
        try FileSystem.replace(box.path("/etc/group"), with: lower)
        #expect(
            box.wait(10) { box.read("/run/door/ended").split(separator: "\n").count == 8 },
            "\(box.read("/run/log/engine"))")
        #expect(box.read("/run/door/ended").split(separator: "\n").allSatisfy { $0.hasSuffix(" 9") })
        #expect(box.ask("sessions")?.hasSuffix("ok\n") == true && box.service("door")?[1] == "running")
        let audit = try box.askEngine(["do": "audit"])["records"]?.list ?? []
        #expect(audit.contains { $0["what"]?.text == "end-sessions" && $0["details"]?.text == "user=rita" }, "\(audit)")
        #expect(audit.filter { $0["what"]?.text == "session" && $0["outcome"]?.text == "refused" }.count <= 2)
    }
}
