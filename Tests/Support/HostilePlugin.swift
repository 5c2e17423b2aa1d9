/// A plugin that tries what an attacker in it would, and what came of each attempt.
public enum HostilePlugin {
    /// The program, in Python. It ends with 3, and its last line on standard error is JSON: by
    /// attempt the errno's name, or what it got.
    ///
    /// - Parameters:
    ///   - files: of the host that it must not read.
    ///   - sockets: paths of the host's Unix sockets.
    ///   - port: a TCP port of the host.
    public static func program(files: [String], sockets: [String], port: Int) -> String {
        """
        #!/usr/bin/python3
        import ctypes, errno, json, os, resource, signal, socket, sys, time
        libc = ctypes.CDLL(None, use_errno=True)
        result = {}
        def attempt(name, deed):
            try: result[name] = deed()
            except OSError as error: result[name] = errno.errorcode.get(error.errno, str(error))
            except (MemoryError, ValueError) as error: result[name] = type(error).__name__
        def call(*arguments):
            value = libc.syscall(*arguments)
            if value < 0: raise OSError(ctypes.get_errno(), "syscall")
            return value
        def write(path):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)); return "written"
        def read(path): return "read %d" % len(open(path, "rb").read())
        def clone(flags):
            child = call(56, flags | signal.SIGCHLD, 0, 0, 0, 0)
            if child == 0: os._exit(0)
            return "cloned"
        def connect(path):
            socket.socket(socket.AF_UNIX).connect(path); return "connected"
        def processes():
            count = 0
            try:
                while count < 100:
                    if os.fork() == 0: time.sleep(5); os._exit(0)
                    count += 1
            except OSError: pass
            return count
        status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
        for name in ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"]:
            result[name] = status[name].strip()
        result["user"] = [os.getuid(), os.geteuid(), os.getgid(), len(os.getgroups())]
        attempt("root", lambda: sorted(os.listdir("/")))
        attempt("devices", lambda: sorted(os.listdir("/dev")))
        for name in ["/tmp", "/var", "/run", "/data", "/dev/shm"]:
            attempt("list " + name, lambda: os.listdir(name))
        attempt("proc", lambda: sorted(n for n in os.listdir("/proc") if not n.isdigit()))
        attempt("pids", lambda: len([n for n in os.listdir("/proc") if n.isdigit()]))
        for path in \(files) + ["/etc/shadow", "/root", "/sys/class", "/proc/sys/kernel/hostname", "/proc/kallsyms",
                                "/dev/mem", "/dev/kmsg", "/dev/full", "/dev/random", "/proc/1/root/root"]:
            attempt("read " + path, lambda: read(path))
        own = os.path.dirname(os.path.abspath(sys.argv[0]))
        for path in ["/x", "/tmp/x", "/var/x", "/run/x", "/data/x", "/dev/x", "/dev/shm/x", "/usr/x", "/etc/x",
                     own + "/x", "/proc/sys/kernel/core_pattern", "/proc/self/oom_score_adj"]:
            attempt("write " + path, lambda: write(path))
        attempt("mknod", lambda: os.mknod("/tmp/x", 0o60600, os.makedev(8, 0)))
        attempt("mkdir", lambda: os.mkdir("/dev/shm/x"))
        for path in \(sockets): attempt("connect " + path, lambda: connect(path))
        attempt("connect", lambda: socket.create_connection(("127.0.0.1", \(port)), 2).fileno())
        for name in ["UNIX", "INET", "INET6", "NETLINK", "PACKET", "VSOCK", "ALG", "BLUETOOTH", "KEY", "XDP"]:
            family = getattr(socket, "AF_" + name, {"KEY": 15, "XDP": 44}.get(name))
            attempt("AF_" + name, lambda: call(41, family, 2, 0))
            attempt("pair of AF_" + name, lambda: call(53, family, 2, 0, ctypes.create_string_buffer(8)))
        for name, arguments in {
            "bpf": (321, 0, 0, 0), "keyctl": (250, 0, 0, 0, 0, 0), "add_key": (248, b"user", b"x", b"x", 1, -3),
            "request_key": (249, b"user", b"x", 0, 0), "io_uring_setup": (425, 1, 0),
            "io_uring_enter": (426, 0, 0, 0, 0), "unshare user": (272, 0x10000000),
            "unshare mount": (272, 0x20000), "setns": (308, 0, 0), "clone3": (435, 0, 0),
            "ptrace": (101, 16, 1, 0, 0), "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
            "perf_event_open": (298, 0, 0, 0, 0, 0), "userfaultfd": (323, 0), "memfd_create": (319, b"x", 0),
            "kexec_load": (246, 0, 0, 0, 0), "syslog": (103, 3, 0, 0), "personality": (135, 0x0400000),
            "shmget": (29, 0, 4096, 0o1600), "mq_open": (240, b"x", 0o101, 0o600, 0), "inotify_init1": (294, 0),
            "mount": (165, b"none", b"/tmp", b"tmpfs", 0, 0), "umount": (166, b"/proc", 2),
            "pivot_root": (155, b".", b"."), "chroot": (161, b"/"), "open_tree": (428, -100, b"/", 1),
            "init_module": (175, 0, 0, b""), "setuid": (105, 0), "setgroups": (116, 0, 0),
            "capset": (126, 0, 0), "clock_settime": (227, 0, b"0" * 16), "reboot": (169, 0, 0, 0, 0),
            "sethostname": (170, b"x", 1), "swapon": (167, b"/x", 0), "io_setup": (206, 1, b"0" * 8),
            "open_by_handle_at": (304, -100, b"0" * 64, 0), "newer": (600,), "x32": (0x40000000 + 39,),
        }.items(): attempt(name, lambda: call(*arguments))
        attempt("clone user", lambda: clone(0x10000000))
        attempt("clone network", lambda: clone(0x40000000))
        attempt("kill", lambda: os.kill(-1, 9))
        attempt("raise limit", lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)))
        attempt("memory", lambda: len(bytearray(1 << 30)))
        attempt("processes", processes)
        print(json.dumps(result, separators=(",", ":")), file=sys.stderr)
        sys.exit(3)

        """
    }
}
