import Documents
import Files
import Testing

/// Code execution in a service with a strict profile: what it has of the box.
@Suite(.serialized) struct ProfileTests {
    /// Tries what a daemon that is taken over would, and prints what came of it.
    private static let attacker = """
        #!/usr/bin/python3
        import ctypes, errno, json, mmap, os, signal, socket, sys
        libc = ctypes.CDLL(None, use_errno=True)
        result = {}
        def attempt(name, deed):
            try: result[name] = str(deed())
            except OSError as error: result[name] = errno.errorcode.get(error.errno, str(error))
        def call(*arguments):
            value = libc.syscall(*arguments)
            if value < 0: raise OSError(ctypes.get_errno(), "syscall")
            return value
        def write(path): return os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
        def memory():
            mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC); return "mapped"
        attempt("init", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect("/run/vcpe/init.sock"))
        attempt("engine", lambda: socket.socket(socket.AF_UNIX).connect("/run/vcpe/api/engine.sock"))
        attempt("units", lambda: write("/run/vcpe/units/planted"))
        attempt("image", lambda: write("/usr/lib/vcpe/units/planted"))
        attempt("cgroup", lambda: write("/sys/fs/cgroup/cgroup.procs"))
        attempt("sysctl", lambda: write("/proc/sys/kernel/core_pattern"))
        attempt("sys", lambda: write("/sys/kernel/uevent_helper"))
        attempt("state", lambda: os.listdir("/run/vcpe"))
        attempt("data", lambda: os.listdir("/data"))
        attempt("logs", lambda: os.listdir("/run/log"))
        attempt("disk", lambda: os.open("/dev/disk-of-the-box", os.O_RDWR))
        attempt("devices", lambda: sorted(os.listdir("/dev")))
        attempt("mknod", lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(7, 0)))
        attempt("pids", lambda: sorted(int(p) for p in os.listdir("/proc") if p.isdigit()))
        attempt("user namespace", lambda: call(272, 0x10000000))
        attempt("mount namespace", lambda: call(272, 0x20000))
        attempt("mount", lambda: call(165, b"none", b"/tmp", b"tmpfs", 0, 0))
        attempt("module", lambda: call(313, 0, b"", 0))
        attempt("bpf", lambda: call(321, 0, 0, 0))
        attempt("keys", lambda: call(250, 0, 0, 0, 0, 0))
        attempt("uring", lambda: call(425, 1, 0))
        attempt("ptrace", lambda: call(101, 16, 1, 0, 0))
        attempt("clock", lambda: call(227, 0, b"0" * 16))
        attempt("setuid", lambda: call(105, 5))
        # RLIMIT_NOFILE of PID 1: with user 0 no capability is asked for.
        attempt("limits", lambda: call(302, 1, 7, bytes([200] + [0] * 7) * 2, 0))
        attempt("newer", lambda: call(600))
        attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
        attempt("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        attempt("vsock", lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM, 0))
        attempt("inet", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close())
        attempt("code", memory)
        # What it needs works.
        attempt("own", lambda: write("/data/own/file"))
        attempt("directory", lambda: write("/run/own-directory/file"))
        attempt("temporary", lambda: write("/tmp/file"))
        attempt("visible", lambda: open("/run/vcpe/own/conf").read())
        attempt("visible-write", lambda: write("/run/vcpe/own/conf"))
        attempt("null", lambda: write("/dev/null"))
        def execute():
            open("/data/own/program", "w").write("#!/bin/true"); os.chmod("/data/own/program", 0o755)
            os.execv("/data/own/program", ["x"])
        attempt("execute", execute)
        attempt("child", lambda: os.spawnv(os.P_WAIT, "/bin/true", ["true"]))
        print(json.dumps(result), flush=True)
        signal.pause()

        """

    private static let setup = """
        mkdir -p data/own data/others run/vcpe/own run/vcpe/other run/log
        echo secret >data/others/secret; echo own >run/vcpe/own/conf; mknod -m 600 dev/disk-of-the-box b 7 99
        """

    private static let strict = """
        command /usr/lib/test/attacker
        strict
        writable /data/own
        visible /run/vcpe/own
        visible /run/vcpe/not-there
        directory /run/own-directory

        """

    private static func result(_ box: Sandbox, _ name: String) throws -> JSON {
        #expect(
            box.wait(15) { box.read("/run/log/\(name)").contains("}") },
            "\(box.ask("status") ?? "") \(box.read("/run/log/\(name)")) \(box.console)")
        return try JSON.parse(
            String(box.read("/run/log/\(name)").split(separator: "\n").last { $0.hasPrefix("{") } ?? ""))
    }

    /// As root without capabilities, and as a user.
    @Test(arguments: ["capabilities\n", "capabilities\nuser 65534\ngroup 65534\n", ""])
    func aStrictServiceReachesNothingOfOthers(more: String) throws {
        let box = try Sandbox(
            units: ["evil": Self.strict + more, "other": "command /bin/sleep 1000\n"],
            scripts: ["attacker": Self.attacker],
            setup: Self.setup + (more.contains("user") ? "\nchown 65534 data/own" : ""))
        let result = try Self.result(box, "evil")
        func text(_ name: String) -> String { result[name]?.text ?? "nothing" }
        for name in ["init", "engine", "disk", "logs"] {
            #expect(["ENOENT", "EACCES"].contains(text(name)), "\(name): \(text(name))")
        }
        for name in ["units", "image", "cgroup", "sysctl", "sys", "visible-write"] {
            #expect(["EROFS", "ENOENT", "EACCES"].contains(text(name)), "\(name): \(text(name))")
        }
        #expect(!text("state").contains("other") && text("state").contains("own"))
        #expect(text("data") == "['own']")
        #expect(!text("devices").contains("disk") && text("devices").contains("'null'"))
        for name in [
            "user namespace", "mount namespace", "mount", "module", "bpf", "keys", "uring", "ptrace", "clock", "setuid",
            "limits",
        ] {
            #expect(text(name) == "EPERM", "\(name): \(text(name))")
        }
        #expect(text("newer") == "ENOSYS")
        for name in ["netlink", "packet", "vsock"] { #expect(text(name) == "EAFNOSUPPORT", "\(name): \(text(name))") }
        #expect(["EACCES", "EPERM"].contains(text("code")))
        // Of a service with all capabilities, /proc hides nothing.
        if !more.isEmpty { #expect(!text("pids").contains("[1,"), "\(text("pids"))") }
        for name in ["own", "directory", "temporary", "null", "inet"] {
            #expect(text(name) == "None", "\(name): \(text(name))")
        }
        #expect(text("visible") == "own\n" && text("child") == "0" && text("execute") == "EACCES")
        #expect(FileSystem.exists(box.path("/data/own/file")) && !FileSystem.exists(box.path("/tmp/file")))
    }

    /// A whole folder that is hidden otherwise.
    @Test func aServiceThatAsksForAllDataHasAllData() throws {
        let box = try Sandbox(
            units: ["evil": "command /usr/lib/test/attacker\nstrict\nwritable /data\nvisible /run/vcpe/own\n"],
            scripts: ["attacker": Self.attacker], setup: Self.setup)
        let result = try Self.result(box, "evil")
        #expect(
            result["data"]?.text?.contains("'others', 'own'") == true && result["own"]?.text == "None", "\(result.line)"
        )
        #expect(FileSystem.exists(box.path("/data/own/file")))
    }

    @Test func aServiceGetsWhatItAsksForByName() throws {
        let box = try Sandbox(
            units: [
                "evil": Self.strict
                    + "device disk-of-the-box\nsystem-calls users\nsystem-calls mount\naddress-family netlink\n"
                    + "allow namespaces\nallow new-code\nallow processes\n"
            ], scripts: ["attacker": Self.attacker], setup: Self.setup)
        let result = try Self.result(box, "evil")
        func text(_ name: String) -> String { result[name]?.text ?? "nothing" }
        #expect(text("devices").contains("disk-of-the-box") && text("netlink").contains("socket"))
        #expect(text("mount namespace") == "0" && text("code") == "mapped" && text("pids").contains("[1,"))
        #expect(text("setuid") == "0" || text("setuid") == "EPERM")
        #expect(text("packet") == "EAFNOSUPPORT" && text("clock") == "EPERM" && text("bpf") == "EPERM")
    }
}
