import Glibc

/// The main process of a service that forked.
enum ForkedDaemon {
    /// The process that the pid file names, or without a file the first of the cgroup. Only a child
    /// of PID 1 is taken: nothing reports the exit of another one.
    ///
    /// - Parameters:
    ///   - members: the processes of the cgroup; nil where the kernel has no groups.
    ///   - mayGuess: take a process of the cgroup when there is no pid file.
    static func find(pidFile: String?, members: [pid_t]?, mayGuess: Bool) -> pid_t? {
        if let pidFile {
            let text = Text.bytes(pidFile, limit: 32, flags: O_NOFOLLOW)
            guard let named = pid_t(String(decoding: text, as: UTF8.self).prefix { $0.isNumber }), named > 1,
                members?.contains(named) ?? true, isChild(named)
            else { return nil }
            return named
        }
        return mayGuess ? members?.first(where: isChild) : nil
    }

    /// Whether a process is a child of PID 1 (proc_pid_stat(5)), and no zombie.
    private static func isChild(_ pid: pid_t) -> Bool {
        // The name between parentheses may have blanks and parentheses itself.
        let fields = Text.read("/proc/\(pid)/stat").split(separator: ")").last?.split(separator: " ") ?? []
        return fields.count > 1 && fields[0] != "Z" && fields[1] == "1"
    }
}
