import CSystem
import Files
import Glibc

/// Runs a program of unknown origin, such as a plugin, on a build host and on a box alike: in user,
/// mount, PID, network, IPC, UTS and cgroup namespaces of its own, with a read-only root of /usr
/// and /etc, three devices, no capability, few system calls, and within bounds.
///
/// It needs no privilege where user namespaces are allowed (user_namespaces(7)). Root also works
/// where they are not: the program then runs as ``user`` in the other namespaces.
public struct Sandbox: Sendable, Hashable {
    /// What the program does, which decides what it has beside the tree.
    public enum Purpose: Sendable, Hashable {
        /// It computes: it writes to nothing but its output, makes no socket, and sees in /proc
        /// nothing but its own processes.
        case computing
        /// A daemon checks its own configuration: it has a /tmp of 1 MiB, the whole /proc, and the
        /// calls and the local sockets of a service.
        case checking
    }

    /// A folder or a file of the host that the program sees, read-only.
    public struct Folder: Sendable, Hashable {
        /// A path of the host.
        public var source: String
        /// A path of the sandbox, without a leading slash. Below `usr` and `etc`, it exists in
        /// ``Sandbox/tree``.
        public var place: String

        public init(_ source: String, at place: String) { (self.source, self.place) = (source, place) }

        /// What a sandbox over a box's /usr lacks of some paths, each in its own place: nothing on
        /// a box. In a test they are elsewhere, and may be links.
        public static func lacking(of paths: [String]) throws(SystemError) -> [Folder] {
            var all: Set<String> = []
            for path in paths { all.formUnion([path, try FileSystem.realPath(path)]) }
            return all.filter { path in
                !path.hasPrefix("/usr/") && !all.contains { path.hasPrefix("\($0)/") }
            }.sorted().map { Folder($0, at: String($0.dropFirst())) }
        }
    }

    /// A folder of the host whose `usr` and `etc` become the program's.
    public var tree: String
    /// A folder of the host where the sandbox's root is mounted, for a tree that is `/`; nil for the tree.
    public var root: String?
    public var folders: [Folder]
    /// The program's user and group: of the range that systemd leaves free, and no user of the
    /// host.
    public var user: UInt32 = 64_999
    public var purpose = Purpose.computing
    /// Bytes of address space of each process, and of memory of all of them where there is a cgroup
    /// for the call: on a box.
    public var memory: UInt64
    /// Processes and threads: of the user, and of the call where there is a cgroup for it.
    public var processes: UInt64
    /// Seconds of processor time.
    public var seconds: UInt64
    /// False for a box: in a user namespace of its own, root could not bind a folder in which something
    /// is mounted (mount_namespaces(7), locked mounts).
    public var hasUserNamespace = true
    /// Where the kernel runs out of memory, it ends processes with a high number first.
    public var oomScoreAdjustment: Int32 = 0

    /// A sandbox over a box's own /usr and /etc, in which a plugin runs.
    ///
    /// - Parameter user: used by no other program, since the kernel counts processes by user.
    public static func onBox(user: UInt32, folders: [Folder] = []) -> Sandbox {
        var sandbox = Sandbox(tree: "/", folders: folders)
        // Any folder but / does.
        (sandbox.root, sandbox.hasUserNamespace, sandbox.user) = ("/tmp", false, user)
        sandbox.oomScoreAdjustment = 900
        return sandbox
    }

    public init(
        tree: String, folders: [Folder] = [], memory: UInt64 = 512 << 20, processes: UInt64 = 16, seconds: UInt64 = 20
    ) {
        self.tree = tree
        self.folders = folders
        self.memory = memory
        self.processes = processes
        self.seconds = seconds
    }

    /// Sets of csystem_calls: the first of further ones, and CSYSTEM_COMPUTING_CALLS.
    private static let (users, computing): (UInt32, UInt32) = (1, 1 << 30)

    /// Starts a program.
    ///
    /// - Parameters:
    ///   - program: an absolute path in the sandbox.
    ///   - arguments: with the program's own name first.
    ///   - input: becomes standard input; -1 for /dev/null.
    ///   - group: which it starts in.
    func spawn(
        _ program: String, _ arguments: [String], environment: [String: String], input: Int32, output: Int32,
        error: Int32, group: CallGroup?
    ) throws(SystemError) -> pid_t {
        let argv = arguments.map { strdup($0) } + [nil]
        let envp = environment.sorted { $0.key < $1.key }.map { strdup("\($0.key)=\($0.value)") } + [nil]
        let places = folders.map { (strdup($0.source), strdup($0.place)) }
        let (path, tree, root) = (strdup(program), strdup(tree), root.flatMap { strdup($0) })
        defer {
            for pointer in argv + envp + [path, tree, root] { free(pointer) }
            for place in places {
                free(place.0)
                free(place.1)
            }
        }
        guard places.count <= Int(CSYSTEM_SANDBOX_FOLDERS) else {
            throw SystemError("clone3", program, code: E2BIG)
        }
        // By the kernel's numbers (asm-generic/resource.h): AS, NPROC, CPU, NOFILE, CORE, FSIZE.
        let fileSize: UInt64 = purpose == .checking ? 1 << 20 : 0
        let bounds: [(Int32, UInt64)] = [(9, memory), (6, processes), (0, seconds), (7, 64), (4, 0), (1, fileSize)]
        let limits = bounds.map { csystem_limit(resource: $0.0, value: $0.1) }
        var step = [CChar](repeating: 0, count: 28)
        var sandbox = csystem_sandbox()
        withUnsafeMutableBytes(of: &sandbox.folders) { bytes in
            let folders = bytes.bindMemory(to: csystem_sandbox_folder.self)
            for (i, place) in places.enumerated() {
                folders[i] = csystem_sandbox_folder(
                    source: place.0.map { UnsafePointer($0) }, place: place.1.map { UnsafePointer($0) })
            }
        }
        sandbox.folder_count = Int32(places.count)
        sandbox.program = path.map { UnsafePointer($0) }
        sandbox.tree = tree.map { UnsafePointer($0) }
        sandbox.root = root.map { UnsafePointer($0) }
        sandbox.without_users = hasUserNamespace ? 0 : 1
        (sandbox.input, sandbox.output, sandbox.error, sandbox.user) = (input, output, error, user)
        (sandbox.cgroup, sandbox.oom_score_adjustment) = (group?.file.descriptor ?? -1, oomScoreAdjustment)
        // AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK of linux/socket.h, in a network without links.
        let families: [Int32] = purpose == .checking ? [1, 2, 10, 16] : []
        if purpose == .checking {
            (sandbox.has_tmp, sandbox.whole_proc) = (1, 1)
            sandbox.calls.sets = Self.users
        } else {
            sandbox.calls.sets = Self.computing
        }
        sandbox.calls.family_count = Int32(families.count)
        let result = argv.withUnsafeBufferPointer { argv in
            envp.withUnsafeBufferPointer { envp in
                limits.withUnsafeBufferPointer { limits in
                    families.withUnsafeBufferPointer { families in
                        sandbox.arguments = argv.baseAddress
                        sandbox.environment = envp.baseAddress
                        sandbox.limits = limits.baseAddress
                        sandbox.limit_count = Int32(limits.count)
                        sandbox.calls.families = families.baseAddress
                        return csystem_spawn_sandbox(&sandbox, &step)
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
