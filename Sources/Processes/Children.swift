import CSystem
import Files
import Glibc
import Synchronization

/// Programs that must not outlive this process.
///
/// The kernel kills a child at its parent's death when the child asked for that (PR_SET_PDEATHSIG),
/// but the parent is the thread that started it (prctl(2)), and threads end earlier than their
/// process. So one thread, which never ends, starts them all.
public enum Children {
    /// From now on every ``Command`` that this process starts ends with it, however it ends:
    /// SIGKILL included.
    public static func endWithThisProcess() { state.withLock { $0.isBound = true } }

    /// A program to start.
    struct Order {
        var program: String
        var arguments: [String]
        var environment: [String: String]
        /// Become the program's descriptors 0, 1, …; -1 for /dev/null.
        var files: [Int32]
    }

    private struct State {
        var isBound = false
        var spawner: Spawner?
    }

    private static let state = Mutex(State())

    static var areBound: Bool { state.withLock { $0.isBound } }

    /// Starts a program on the thread that never ends.
    static func start(_ order: Order) throws(SystemError) -> pid_t {
        let spawner: Spawner? = state.withLock { state in
            if state.spawner == nil { state.spawner = Spawner() }
            return state.spawner
        }
        guard let spawner else { throw SystemError("pthread_create", order.program, code: EAGAIN) }
        let result = spawner.start(order, network: try foreignNetwork())
        guard result > 0 else { throw SystemError("execve", order.program, code: -result) }
        return result
    }

    /// This thread's network namespace where it is another one than the process's; a program
    /// belongs into it.
    private static func foreignNetwork() throws(SystemError) -> File? {
        var (own, process) = (stat(), stat())
        guard stat("/proc/thread-self/ns/net", &own) == 0, stat("/proc/self/ns/net", &process) == 0,
            own.st_ino != process.st_ino
        else { return nil }
        return try File("/proc/thread-self/ns/net")
    }
}

/// The thread, and the one order that it works on.
private final class Spawner: Sendable {
    private struct Work {
        var order: Children.Order
        var network: Int32
    }

    private let turn = Mutex(())
    private let orders: (reading: Int32, writing: Int32)
    private let answers: (reading: Int32, writing: Int32)
    private let work = Mutex<Work?>(nil)

    init?() {
        var (reading, writing): (Int32, Int32) = (-1, -1)
        guard csystem_blocking_pipe(&reading, &writing) == 0 else { return nil }
        orders = (reading, writing)
        guard csystem_blocking_pipe(&reading, &writing) == 0 else { return nil }
        answers = (reading, writing)
        var thread = pthread_t()
        let started = pthread_create(
            &thread, nil,
            { context in
                if let context { Unmanaged<Spawner>.fromOpaque(context).takeRetainedValue().serve() }
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        guard started == 0 else { return nil }
        pthread_detach(thread)
    }

    /// - Returns: the pid, or minus the errno.
    func start(_ order: Children.Order, network: File?) -> Int32 {
        turn.withLock { _ in
            work.withLock { $0 = Work(order: order, network: network?.descriptor ?? -1) }
            var go: UInt8 = 1
            var result: Int32 = -EIO
            while write(orders.writing, &go, 1) < 0, errno == EINTR {}
            while read(answers.reading, &result, 4) < 0, errno == EINTR {}
            return result
        }
    }

    private func serve() {
        while true {
            var go: UInt8 = 0
            let count = read(orders.reading, &go, 1)
            if count < 0, errno == EINTR { continue }
            guard count == 1, let next = work.withLock({ $0 }) else { return }
            var result = Self.start(next)
            while write(answers.writing, &result, 4) < 0, errno == EINTR {}
        }
    }

    private static func start(_ work: Work) -> Int32 {
        let order = work.order
        let argv = ([order.program] + order.arguments).map { strdup($0) } + [nil]
        let envp = order.environment.sorted { $0.key < $1.key }.map { strdup("\($0.key)=\($0.value)") } + [nil]
        let program = strdup(order.program)
        defer { for pointer in argv + envp + [program] { free(pointer) } }
        var start = csystem_start()
        start.program = program.map { UnsafePointer($0) }
        start.network = work.network
        guard order.files.count <= Int(CSYSTEM_START_FILES) else { return -E2BIG }
        withUnsafeMutableBytes(of: &start.files) { bytes in
            let files = bytes.bindMemory(to: Int32.self)
            for (i, file) in order.files.enumerated() { files[i] = file }
        }
        start.file_count = Int32(order.files.count)
        return argv.withUnsafeBufferPointer { argv in
            envp.withUnsafeBufferPointer { envp in
                start.arguments = argv.baseAddress
                start.environment = envp.baseAddress
                return csystem_start(&start)
            }
        }
    }
}
