import Documents
import Files
import Glibc
import Processes
import Testing

/// The audit log of a running engine: what changed the box, and what was refused.
@Suite(.serialized) struct AuditTests {
    /// Records by their request and outcome, with details.
    private func records(_ box: BoxInNetwork, _ arguments: String...) throws -> [JSON] {
        let result = try box.run(["audit", "--json"] + arguments)
        #expect(result.status == 0, "\(result.errorText)")
        return try JSON.parse(result.output).list ?? []
    }

    private func shown(_ record: JSON) -> String { "\(record["what"]?.text ?? "") \(record["outcome"]?.text ?? "")" }

    @Test func whatChangesOrIsRefusedIsKept() throws {
        let box = try BoxInNetwork.ready()
        #expect(try box.apply(BoxInNetwork.site.editing("8080", with: "8081")) == nil)
        #expect(try box.vcpectl("set", "nat.forwards[web].to-port", "8081").status == 0)
        #expect(try box.vcpectl("commit", "--comment", "ticket 4711").status == 0)
        #expect(try box.vcpectl("firewall", "block", "198.51.100.7", "10m").status == 0)
        #expect(try box.vcpectl("rollback", "77").status == 1)
        // Reading is no record.
        for verb in ["status", "show", "history", "plan", "audit"] { _ = try box.vcpectl(verb) }
        _ = try box.vcpectl("firewall", "blocked")
        let all = try records(box)
        #expect(all.map(shown) == ["apply done", "edit done", "commit done", "run done", "rollback failed"])
        #expect(all.map { $0["number"]?.integer } == [1, 2, 3, 4, 5])
        #expect(all.allSatisfy { $0["user"] == "root" && $0["uid"] == 0 && $0["role"] == "administrator" })
        let details = all.map { $0["details"]?.text ?? "" }
        #expect(details[1].contains("set nat.forwards[web].to-port") && !details[1].contains("8081"))
        #expect(details[2].contains("ticket 4711") && details[2].contains("commit=2"), "\(details)")
        #expect(details[3].contains("block") && details[3].contains("198.51.100.7"), "\(details)")
        #expect(all[4]["reason"]?.text?.contains("no commit 77") == true)
        #expect(try records(box, "--outcome", "failed").count == 1)
        // They survive the engine.
        box.killEngine()
        try box.start()
        #expect(try records(box).map(shown) == all.map(shown))
    }

    /// Root outside of the updater's service writes no records of others.
    @Test func noOtherProgramAddsRecords() throws {
        let box = try BoxInNetwork.ready()
        let answer = try box.ask("note", ["what": "upgrade install", "outcome": "done", "uid": 1000])
        #expect(answer["error"] != nil)
        #expect(try records(box).map(shown) == ["note refused"])
    }

    /// A user without a role, and one whose requests come faster than records are allowed.
    @Test func refusalsAreKeptAndCounted() throws {
        let box = try BoxInNetwork.ready()
        chmod("\(box.folder)/run/engine.sock", 0o666)
        for name in ["", "/run"] { chmod(box.folder + name, 0o755) }
        let script = """
            import socket, sys
            for _ in range(100):
                s = socket.socket(socket.AF_UNIX)
                s.connect(sys.argv[1])
                s.sendall(b'{"do": "factory-reset"}\\n')
                assert b'error' in s.makefile('rb').readline()
            """
        let result = try Command(
            "setpriv",
            [
                "--reuid", "65534", "--clear-groups", "python3", "-c", script, "\(box.folder)/run/engine.sock",
            ]
        ).run()
        #expect(result.status == 0, "\(result.errorText)")
        let deadline = Glibc.time(nil) + 30
        var count = 0
        repeat {
            let refused = try records(box, "--outcome", "refused", "--most", "1000")
            #expect(refused.allSatisfy { $0["what"] == "factory-reset" && $0["uid"] == 65534 && $0["role"] == nil })
            #expect(refused.count < 70)
            count = refused.reduce(0) { $0 + ($1["count"]?.integer ?? 1) }
            usleep(200_000)
        } while count < 100 && Glibc.time(nil) < deadline
        #expect(count == 100)
    }

    /// A login shell's session, and one for a command, as sshd begins it.
    @Test func sessionsBeginAndEnd() throws {
        let box = try BoxInNetwork.ready()
        let session = try box.onBox([
            "env", "SSH_CONNECTION=192.0.2.7 50000 192.0.2.1 22", "\(box.folder)/vcpectl", "-c",
            "set firewall.rules[lan-to-box].action drop",
        ])
        #expect(session.status == 0, "\(session.errorText)")
        var all: [JSON] = []
        for _ in 0..<50 {
            all = try records(box)
            if all.count == 3 { break }
            usleep(100_000)
        }
        #expect(all.map(shown) == ["login done", "edit done", "logout done"])
        #expect(all.allSatisfy { $0["origin"] == "ssh 192.0.2.7 50000" }, "\(all.map(\.line))")
        // Of a command its name alone: values may be secret.
        #expect(all.first?["details"] == "command=set")
    }
}
