import Files
import Glibc
import TestSupport
import Testing

@testable import Processes

/// All that a plugin's call starts is in one cgroup, which goes with it.
@Suite struct CallGroupTests {
    @Test(arguments: [
        ("0::/services/engine/run-12-0\n", "services/engine"),
        ("1:name=systemd:/x\n0::/services/upgrade-updater/run-1-1\n", "services/upgrade-updater"),
        // PID 1, a session, a host's user, a helper, names that lead elsewhere.
        ("0::/\n", nil), ("0::/sessions/1/run-1\n", nil), ("0::/user.slice/user-0.slice/session-1.scope\n", nil),
        ("0::/services/engine\n", nil), ("0::/services/engine/call-1-1\n", nil),
        ("0::/services/engine/run-1/..\n", nil), ("", nil),
    ])
    func aRunOfAServiceHasAPlaceForCalls(text: String, service: String?) {
        #expect(CallGroup.service(of: text) == service)
    }

    @Test func aCallHasAGroupAndLeavesNone() throws {
        let mount = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].first { FileSystem.exists("\($0)/cgroup.procs") }
        guard let mount, geteuid() == 0 else { return }
        let service = "\(mount)/vcpe-calls-\(getpid())"
        guard mkdir(service, 0o755) == 0 else { throw SystemError("mkdir", service) }
        defer { rmdir(service) }
        // What a killed process of another number has left.
        let dead = try Command("sh", ["-c", "echo $$"]).check().text.filter(\.isNumber)
        mkdir("\(service)/call-\(dead)-1", 0o755)
        var group = try CallGroup.make(in: service, memory: 64 << 20, processes: 4)
        let path = try #require(group).file.path
        let controllers = String(decoding: try FileSystem.read("\(mount)/cgroup.subtree_control"), as: UTF8.self)
        for (file, controller, value) in [
            ("memory.max", "memory", "\(64 << 20)\n"), ("memory.oom.group", "memory", "1\n"),
            ("pids.max", "pids", "4\n"),
        ] where controllers.contains(controller) {
            #expect(String(decoding: try FileSystem.read("\(path)/\(file)"), as: UTF8.self) == value, "\(file)")
        }
        let out = try File("/dev/null", O_WRONLY)
        let pid = try Sandbox.onBox(user: 64_123).spawn(
            "/usr/bin/sleep", ["sleep", "60"], environment: [:], input: -1, output: out.descriptor,
            error: out.descriptor, group: group)
        #expect(String(decoding: try File("\(path)/cgroup.procs").read(100, at: 0), as: UTF8.self) == "\(pid)\n")
        kill(pid, SIGKILL)
        waitpid(pid, nil, 0)
        group = nil
        #expect(!FileSystem.exists(path))
        #expect(try FileSystem.list(service).filter { $0.hasPrefix("call-") } == [])
        // Where there is no such group, there are no calls' groups: nil, and no error.
        let missing = try CallGroup.make(in: "\(service)/missing", memory: 1 << 20, processes: 4)
        #expect(missing == nil)
    }
}
