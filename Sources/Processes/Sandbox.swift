import CSystem
import Files
import Glibc

/// Runs a program of unknown origin on a build host, or on a box a program that checks files: in user,
/// mount, PID, network, IPC, UTS and cgroup namespaces of its own, with a read-only root, without
/// capabilities, and within bounds.
///
/// It needs no privilege where user namespaces are allowed (user_namespaces(7)). Root also works
/// where they are not: the program then runs as ``user`` in the other namespaces.
public struct Sandbox: Sendable, Hashable {
    /// A folder or a file of the host that the program sees, read-only.
    public struct Folder: Sendable, Hashable {
        /// A path of the host.
        public var source: String
        /// A path of the sandbox, without a leading slash, that exists in ``Sandbox/tree``.
        public var place: String

        public init(_ source: String, at place: String) { (self.source, self.place) = (source, place) }
    }

    /// A folder of the host whose `usr` and `etc` become the program's.
    public var tree: String
    /// A folder of the host where the sandbox's root is mounted, for a tree that is `/`; nil for the tree.
    public var root: String?
    public var folders: [Folder]
    /// The program's user and group: of the range that systemd leaves free, and no user of the
    /// host.
    public var user: UInt32 = 64_999
    /// Bytes of address space.
    public var memory: UInt64
    /// Processes and threads.
    public var processes: UInt64
    /// Seconds of processor time.
    public var seconds: UInt64
    /// False for a box: in a user namespace of its own, root could not bind a folder in which something
    /// is mounted (mount_namespaces(7), locked mounts).
    public var hasUserNamespace = true
    /// Bytes of a file that it writes. Only its /tmp, of 1 MiB, can be written to, and goes with it.
    public var fileSize: UInt64 = 0

    /// The bounds are those that a box gives to a plugin (``Confinement``).
    public init(
        tree: String, folders: [Folder] = [], memory: UInt64 = 512 << 20, processes: UInt64 = 16, seconds: UInt64 = 20
    ) {
        self.tree = tree
        self.folders = folders
        self.memory = memory
        self.processes = processes
        self.seconds = seconds
    }

    /// Starts a program.
    ///
    /// - Parameters:
    ///   - program: an absolute path in the sandbox.
    ///   - arguments: with the program's own name first.
    ///   - input: becomes standard input; -1 for /dev/null.
    func spawn(
        _ program: String, _ arguments: [String], environment: [String: String], input: Int32, output: Int32,
        error: Int32
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
        let result = argv.withUnsafeBufferPointer { argv in
            envp.withUnsafeBufferPointer { envp in
                limits.withUnsafeBufferPointer { limits in
                    sandbox.arguments = argv.baseAddress
                    sandbox.environment = envp.baseAddress
                    sandbox.limits = limits.baseAddress
                    sandbox.limit_count = Int32(limits.count)
                    return csystem_spawn_sandbox(&sandbox, &step)
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
