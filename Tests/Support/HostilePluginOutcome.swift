import Documents

/// What a ``HostilePlugin`` may have got: nothing.
public struct HostilePluginOutcome {
    private let json: JSON

    public init(_ json: JSON) { self.json = json }

    /// Attempts whose names begin so.
    private func names(_ start: String) -> [String] {
        guard case .object(let fields) = json else { return [] }
        return fields.keys.filter { $0.hasPrefix(start) }.sorted()
    }

    /// The attempts that succeeded, or failed in another way than they should, and those that are
    /// missing.
    ///
    /// - Parameter user: that it runs as.
    public func findings(user: Int) -> [String] {
        var found: [String] = []
        func expect(_ condition: Bool, _ name: String) {
            if !condition { found.append("\(name): \(json[name]?.line ?? "nothing")") }
        }
        func check(_ names: [String], _ allowed: [String], count: Int? = nil) {
            for name in names { expect(allowed.contains(json[name]?.text ?? json[name]?.line ?? "nothing"), name) }
            if let count, names.count != count { found.append("\(names.count) instead of \(count) attempts: \(names)") }
        }
        check(["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"], ["0000000000000000"])
        check(["NoNewPrivs"], ["1"])
        check(["Seccomp"], ["2"])
        expect(json["user"]?.line.hasPrefix("[\(user),\(user),\(user),") == true, "user")
        // Three devices, an empty folder, and links to the process's own files.
        check(["devices"], [#"["fd","null","shm","stderr","stdin","stdout","urandom","zero"]"#])
        check(["list /tmp", "list /var", "list /run", "list /data", "list /dev/shm"], ["[]"])
        // Its own processes, and no more of the kernel.
        check(["proc"], [#"["self","thread-self"]"#])
        expect((json["pids"]?.integer ?? 100) <= 2, "pids")
        // A box's own /etc/shadow is there, and root's.
        check(names("read ").filter { $0 != "read /proc/1/root/root" }, ["ENOENT", "EACCES"])
        check(["read /proc/1/root/root"], ["ENOENT", "EACCES", "EPERM"])
        if names("read ").count < 10 { found.append("too few files: \(names("read "))") }
        check(names("write ").filter { !$0.contains("/proc/self") }, ["EROFS", "ENOENT", "EACCES"], count: 11)
        check(["mknod", "mkdir"], ["EPERM"])
        check(names("connect"), ["EAFNOSUPPORT"])
        check(names("AF_"), ["EAFNOSUPPORT"], count: 10)
        check(names("pair of AF_"), ["EAFNOSUPPORT"], count: 10)
        check(
            [
                "bpf", "keyctl", "add_key", "request_key", "io_uring_setup", "io_uring_enter", "unshare user",
                "unshare mount", "setns", "ptrace", "process_vm_readv", "perf_event_open", "userfaultfd",
                "memfd_create", "kexec_load", "syslog", "personality", "shmget", "mq_open", "inotify_init1", "mount",
                "umount", "pivot_root", "chroot", "open_tree", "init_module", "setuid", "setgroups", "capset",
                "clock_settime", "reboot", "sethostname", "swapon", "io_setup", "open_by_handle_at", "clone user",
                "clone network",
            ], ["EPERM"])
        check(["clone3", "newer", "x32"], ["ENOSYS"])
        // The first process of its PID namespace has no other to kill.
        check(["kill"], ["ESRCH", "null"])
        check(["raise limit"], ["EPERM", "ValueError"])
        check(["memory"], ["MemoryError"])
        expect((json["processes"]?.integer ?? 100) < 16, "processes")
        return found
    }
}
