import CSystem
import Files
import Glibc

/// How the engine runs a program of the image that a plugin asks for: as a strict service is run,
/// but without what services see of PID 1 and the engine. It is never root.
public struct ImageProgram: Sendable, Hashable {
    /// Its user and group.
    public var user: UInt32
    public var group: UInt32
    /// Folders that it may change; the last component of none is a link.
    public var writable: [String]
    /// What it sees of `/data`, `/run` and `/var`.
    public var visible: [String]
    /// Whether it may open Unix sockets; it never has others.
    public var hasSockets: Bool
    /// Bytes of a file that it writes.
    public var fileSize: UInt64

    /// Bytes of address space, processes, and seconds of processor time.
    private static let (memory, processes, seconds): (UInt64, UInt64, UInt64) = (512 << 20, 16, 20)

    public init(
        user: UInt32, group: UInt32, writable: [String] = [], visible: [String] = [], hasSockets: Bool = false,
        fileSize: UInt64 = 1 << 20
    ) {
        (self.user, self.group, self.writable, self.visible) = (user, group, writable, visible)
        (self.hasSockets, self.fileSize) = (hasSockets, fileSize)
    }

    /// CLONE_NEWNET, NEWPID, NEWIPC and NEWUTS: its processes end with the first of them.
    private static let namespaces: UInt64 = 0x4000_0000 | 0x2000_0000 | 0x0800_0000 | 0x0400_0000

    /// Starts a program so. Needs root.
    func spawn(
        _ program: String, _ arguments: [String], environment: [String: String], input: Int32, output: Int32,
        error: Int32
    ) throws(SystemError) -> pid_t {
        guard user != 0, group != 0 else { throw SystemError("clone3", program, code: EPERM) }
        let argv = ([program] + arguments).map { strdup($0) } + [nil]
        let envp = environment.sorted { $0.key < $1.key }.map { strdup("\($0.key)=\($0.value)") } + [nil]
        let lists = [writable, visible].map { paths in paths.map { strdup($0) } + [nil] }
        defer { for pointer in argv + envp + Array(lists.joined()) { free(pointer) } }
        // RLIMIT_AS, NPROC, CPU, NOFILE, CORE and FSIZE, by the kernel's numbers.
        let bounds: [(Int32, UInt64)] = [
            (9, Self.memory), (6, Self.processes), (0, Self.seconds), (7, 64), (4, 0), (1, fileSize),
        ]
        let limits = bounds.map { csystem_limit(resource: $0.0, value: $0.1) }
        let families: [Int32] = hasSockets ? [AF_UNIX] : []
        var step = [CChar](repeating: 0, count: 28)
        let result = program.withCString { program in
            argv.withUnsafeBufferPointer { argv in
                envp.withUnsafeBufferPointer { envp in
                    lists[0].withUnsafeBufferPointer { writable in
                        lists[1].withUnsafeBufferPointer { visible in
                            families.withUnsafeBufferPointer { families in
                                limits.withUnsafeBufferPointer { limits in
                                    var view = csystem_view()
                                    (view.writable, view.visible) = (writable.baseAddress, visible.baseAddress)
                                    view.bare = 1
                                    var calls = csystem_calls()
                                    (calls.families, calls.family_count) = (families.baseAddress, Int32(families.count))
                                    var child = csystem_child()
                                    // The folders above its own are made by it, too, and it must
                                    // pass them.
                                    (child.program, child.umask) = (program, 0o022)
                                    (child.arguments, child.environment) = (argv.baseAddress, envp.baseAddress)
                                    (child.cgroup, child.input, child.output, child.error) = (-1, input, output, error)
                                    (child.user, child.group, child.no_new_privileges) = (user, group, 1)
                                    child.keep_capabilities_only = 1
                                    child.namespaces = Self.namespaces
                                    (child.limits, child.limit_count) = (limits.baseAddress, Int32(limits.count))
                                    child.oom_score_adjustment = 900
                                    (child.ends_with_parent, child.new_session) = (1, 1)
                                    return withUnsafePointer(to: &view) { view in
                                        withUnsafePointer(to: &calls) { calls in
                                            (child.view, child.calls) = (view, calls)
                                            return csystem_spawn(&child, &step)
                                        }
                                    }
                                }
                            }
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
