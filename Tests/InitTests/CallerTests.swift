import Documents
import Files
import PluginKit
import TestSupport
import Testing

/// Code execution in a service that is root without any capability: what PID 1 and the engine let
/// it do.
@Suite(.serialized) struct CallerTests {
    private static let manifest: JSON = [
        "name": "daemons", "version": "1", "summary": "of a test", "contract": 1, "key": "daemons", "yang": "none",
        "permissions": Permissions.wide("daemons").json,
        "features": [], "resources": ["service"],
    ]

    /// Asks whom it may not ask, and writes what came of it.
    private static let attacker = """
        #!/usr/bin/python3
        import json, os, signal, socket
        result = {}
        def attempt(name, deed):
            try: result[name] = deed()
            except OSError as error: result[name] = "errno " + os.strerror(error.errno)
        def init(request):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect("/run/vcpe/init.sock")
            s.send(request.encode()); return s.recv(4096).decode()
        def engine(request):
            s = socket.socket(socket.AF_UNIX); s.connect("/run/vcpe/engine.sock")
            s.send((json.dumps(request) + "\\n").encode()); return s.recv(4096).decode()
        for request in ["status", "reload", "start victim", "poweroff"]: attempt(request, lambda: init(request))
        attempt("commit", lambda: engine({"do": "apply", "name": "x", "site": "daemons: {capability: sys_admin}"}))
        attempt("show", lambda: engine({"do": "show"}))
        attempt("signal", lambda: os.kill(1, signal.SIGUSR2))
        # As if the kernel had sent it: no sender.
        def forged():
            import ctypes
            information = (ctypes.c_int32 * 32)(signal.SIGUSR2, 0, -1, 0, 0, 0)
            if ctypes.CDLL(None).syscall(129, 1, signal.SIGUSR2, information): return "refused"
            return "sent"
        attempt("forged", forged)
        # Through a child whose parent has ended: its number says nothing any more.
        def orphan():
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            if os.fork() == 0: s.connect("/run/vcpe/init.sock"); os._exit(0)
            os.wait(); s.send(b"start victim"); return s.recv(4096).decode()
        attempt("orphan", orphan)
        # From the root of all cgroups it would be no service.
        def moved():
            open("/sys/fs/cgroup/cgroup.procs", "w").write(str(os.getpid())); return init("start victim")
        attempt("moved", moved)
        open("/run/result", "w").write(json.dumps(result))
        signal.pause()

        """

    @Test func aDaemonThatIsRootCommandsNothing() throws {
        let box = try Sandbox(
            units: [
                "engine": "command /usr/lib/vcpe/vcpe-engine\nready notify\naccess init\n",
                "victim": "command /bin/touch /run/victim-started\nrestart never\ncondition exists /run/go\n",
                "trusted": "command /usr/lib/test/attacker\nafter evil\nrestart never\naccess power\n"
                    + "condition exists /run/go\n",
                "evil": "command /usr/lib/test/attacker\nafter engine\ncapabilities\nno-new-privileges\n",
            ], scripts: ["attacker": Self.attacker],
            files: ["plugins/daemons/manifest.json": Self.manifest.pretty, "plugins/daemons/daemons": "#!/bin/sh\n"])
        #expect(box.wait(15) { !box.read("/run/result").isEmpty }, "\(box.ask("status") ?? "") \(box.console)")
        let result = try JSON.parse(box.read("/run/result"))
        for request in ["status", "reload", "start victim", "poweroff", "orphan"] {
            #expect(result[request]?.text?.hasPrefix("error ") == true, "\(request): \(result.line)")
        }
        for request in ["commit", "show"] {
            #expect(result[request]?.text?.contains("has no role") == true, "\(request): \(result.line)")
        }
        #expect(["errno Read-only file system", "errno Permission denied"].contains(result["moved"]?.text ?? ""))
        // PID 1 got the signals, and lives.
        #expect(result["forged"]?.text == "sent")
        #expect(box.service("evil")?[1] == "running" && !FileSystem.exists(box.path("/run/victim-started")))
        #expect(box.read("/run/log/evil").contains("PID 1 refused the request reload"))
        // The same requests by a process outside the services.
        #expect(box.ask("reload")?.hasSuffix("ok\n") == true)
        #expect(try box.askEngine(["do": "show"])["error"] == nil)
        // A unit may allow a stop of the box, and no more by that.
        try FileSystem.remove(box.path("/run/result"))
        try FileSystem.replace(box.path("/run/go"), with: "")
        #expect(box.ask("start trusted") == "ok\n")
        #expect(box.wait(10) { box.console.contains("powering off: a request") }, "\(box.console)")
    }
}
