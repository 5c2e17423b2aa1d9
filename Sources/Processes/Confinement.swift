import CSystem
import Files
import Glibc

/// How a box runs a program of unknown origin: as a user of its own without privileges, without a
/// network, without other processes, without a place to keep files, and within bounds of memory and
/// time. A build host uses ``Sandbox``.
public struct Confinement: Sendable, Hashable {
    /// Numeric, and used by no other program: the kernel counts its bounds by user.
    public var user: UInt32
    /// Folders that it finds empty.
    public var hidden: [String]
    /// Bytes of address space.
    public var memory: UInt64
    /// Processes and threads.
    public var processes: UInt64
    /// Seconds of processor time.
    public var seconds: UInt64

    public init(
        user: UInt32, hidden: [String], memory: UInt64 = 512 << 20, processes: UInt64 = 16, seconds: UInt64 = 20
    ) {
        self.user = user
        self.hidden = hidden
        self.memory = memory
        self.processes = processes
        self.seconds = seconds
    }

    /// CLONE_NEWNET, NEWPID, NEWIPC, NEWUTS and NEWNS: its processes end with the first of them,
    /// whatever they call themselves.
    private static let namespaces: UInt64 = 0x4000_0000 | 0x2000_0000 | 0x0800_0000 | 0x0400_0000 | 0x0002_0000

    /// Starts a program so. Needs root.
    func spawn(
        _ program: String, _ arguments: [String], environment: [String: String], input: Int32, output: Int32,
        error: Int32
    ) throws(SystemError) -> pid_t {
        let argv = ([program] + arguments).map { strdup($0) } + [nil]
        let envp = environment.sorted { $0.key < $1.key }.map { strdup("\($0.key)=\($0.value)") } + [nil]
        let hidden = hidden.map { strdup($0) } + [nil]
        defer { for pointer in argv + envp + hidden { free(pointer) } }
        // RLIMIT_AS, NPROC, CPU, NOFILE, CORE and FSIZE, by the kernel's numbers.
        let bounds: [(Int32, UInt64)] = [(9, memory), (6, processes), (0, seconds), (7, 64), (4, 0), (1, 0)]
        let limits = bounds.map { csystem_limit(resource: $0.0, value: $0.1) }
        var step = [CChar](repeating: 0, count: 28)
        let result = program.withCString { program in
            argv.withUnsafeBufferPointer { argv in
                envp.withUnsafeBufferPointer { envp in
                    hidden.withUnsafeBufferPointer { hidden in
                        limits.withUnsafeBufferPointer { limits in
                            var child = csystem_child()
                            child.program = program
                            child.umask = 0o022
                            (child.arguments, child.environment) = (argv.baseAddress, envp.baseAddress)
                            (child.cgroup, child.input, child.output, child.error) = (-1, input, output, error)
                            (child.user, child.group, child.no_new_privileges) = (user, user, 1)
                            child.keep_capabilities_only = 1
                            child.namespaces = Self.namespaces
                            child.hidden_paths = hidden.baseAddress
                            (child.limits, child.limit_count) = (limits.baseAddress, Int32(limits.count))
                            child.oom_score_adjustment = 900
                            // Its bounds are watched by the thread that started it.
                            child.ends_with_parent = 1
                            child.new_session = 1
                            return csystem_spawn(&child, &step)
                        }
                    }
                }
            }
        }
        guard result > 0 else {
            let what = String(decoding: step.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            throw SystemError(what.isEmpty ? "clone3" : what, program, code: -result)
        }
        return result
    }
}
