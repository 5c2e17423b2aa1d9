import CSystem
import Files
import Glibc

/// A network of its own: links, addresses, routes and rules that nothing outside sees. Making one
/// needs CAP_SYS_ADMIN.
public final class NetworkNamespace: Sendable {
    /// Refers to the namespace; it lives as long as this or a process in it does.
    private let file: File

    /// Makes a new one, with its loopback interface up.
    public init() throws {
        file = try onThread {
            guard csystem_new_network() == 0 else { throw SystemError("unshare", "CLONE_NEWNET") }
            csystem_loopback_up()
            return try File("/proc/thread-self/ns/net")
        }
    }

    /// Names it for other programs, as long as this process lives.
    public var path: String { "/proc/\(getpid())/fd/\(file.descriptor)" }

    /// Runs `body` within the namespace, on a thread of its own; programs that it starts are in
    /// there as well.
    public func run<Result>(_ body: () throws -> Result) throws -> Result {
        try onThread {
            guard csystem_enter_namespace(file.descriptor) == 0 else { throw SystemError("setns", file.path) }
            return try body()
        }
    }
}

/// The body of a thread, and its outcome.
private final class ThreadBody<Result> {
    let body: () throws -> Result
    var outcome: Swift.Result<Result, any Error>?

    init(_ body: @escaping () throws -> Result) { self.body = body }
}

/// A body without its types, which C has none of.
private final class Call {
    let run: () -> Void
    init(_ run: @escaping () -> Void) { self.run = run }
}

/// Runs `body` on a new thread and waits: a thread that changed its namespace must never serve
/// anybody else.
private func onThread<Result>(_ body: () throws -> Result) throws -> Result {
    try withoutActuallyEscaping(body) { body in
        let threadBody = ThreadBody(body)
        let call = Call { threadBody.outcome = Swift.Result { try threadBody.body() } }
        var thread = pthread_t()
        let failure = pthread_create(
            &thread, nil,
            { context in
                if let context { Unmanaged<Call>.fromOpaque(context).takeUnretainedValue().run() }
                return nil
            }, Unmanaged.passUnretained(call).toOpaque())
        guard failure == 0 else { throw SystemError("pthread_create", "", code: failure) }
        pthread_join(thread, nil)
        guard let outcome = threadBody.outcome else { throw SystemError("pthread_create", "", code: EAGAIN) }
        return try outcome.get()
    }
}
