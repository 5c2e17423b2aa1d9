import Files
import Glibc

/// Another program that runs beside this one; it is killed when the last reference to it is gone.
public final class RunningProcess {
    public let pid: pid_t
    private var ended: Int32?

    init(pid: pid_t) { self.pid = pid }

    deinit {
        if ended == nil {
            Glibc.kill(pid, SIGKILL)
            var status: Int32 = 0
            waitpid(pid, &status, 0)
        }
    }

    /// The exit code, or 128 and the signal's number; nil while it runs.
    public func poll() -> Int32? {
        if let ended { return ended }
        var status: Int32 = 0
        guard waitpid(pid, &status, WNOHANG) == pid else { return nil }
        ended = status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + (status & 0x7F)
        return ended
    }

    /// Ends it at once.
    public func kill() { if ended == nil { Glibc.kill(pid, SIGKILL) } }
}

extension Command {
    /// Starts it and does not wait for its end.
    ///
    /// - Parameters:
    ///   - output: takes standard output and standard error.
    ///   - inheriting: files that the program has as its descriptors 3, 4, …
    public func start(output: File, inheriting: [File] = []) throws(SystemError) -> RunningProcess {
        if Children.areBound {
            let files = [-1, output.descriptor, output.descriptor] + inheriting.map(\.descriptor)
            return RunningProcess(
                pid: try Children.start(
                    .init(program: program, arguments: arguments, environment: environment, files: files)))
        }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, output.descriptor, 1)
        posix_spawn_file_actions_adddup2(&actions, output.descriptor, 2)
        // First to numbers that none of them is to become.
        for (i, file) in inheriting.enumerated() {
            posix_spawn_file_actions_adddup2(&actions, file.descriptor, Int32(200 + i))
        }
        for i in inheriting.indices { posix_spawn_file_actions_adddup2(&actions, Int32(200 + i), Int32(3 + i)) }
        for i in inheriting.indices { posix_spawn_file_actions_addclose(&actions, Int32(200 + i)) }
        return RunningProcess(pid: try spawn(&actions))
    }

    /// Starts the program, with its descriptors set up by `actions`.
    func spawn(_ actions: inout posix_spawn_file_actions_t) throws(SystemError) -> pid_t {
        var pid: pid_t = 0
        let argv = ([program] + arguments).map { strdup($0) } + [nil]
        let envp = environment.sorted { $0.key < $1.key }.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        // A thread that waits for signals blocks them; a program that inherits the mask could not
        // be ended.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        let failure = posix_spawnp(&pid, program, &actions, &attributes, argv, envp)
        guard failure == 0 else { throw SystemError("posix_spawn", program, code: failure) }
        return pid
    }
}
