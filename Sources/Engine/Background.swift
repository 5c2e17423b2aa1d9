import CSystem
import Files
import Glibc

/// Runs a piece of work that may take seconds on a thread of its own, so that the engine's loop
/// goes on meanwhile. The loop polls for its end and continues with its result: the engine's state
/// belongs to the loop's thread alone.
final class Background {
    private final class Job: @unchecked Sendable {
        let work: () -> Void
        /// Continues in the loop.
        let finish: () -> Void
        /// An eventfd(2), set when the work has ended.
        let end: File

        init(_ end: File, _ work: @escaping () -> Void, _ finish: @escaping () -> Void) {
            (self.end, self.work, self.finish) = (end, work, finish)
        }

        func run() {
            work()
            var one: UInt64 = 1
            while write(end.descriptor, &one, 8) < 0, errno == EINTR {}
        }

        var hasEnded: Bool {
            var count: UInt64 = 0
            return read(end.descriptor, &count, 8) == 8
        }
    }

    /// The result of a piece of work. The thread writes it before it sets the job's end, and the
    /// loop reads it after.
    private final class Outcome<Value>: @unchecked Sendable {
        var result: Result<Value, any Error>?
    }

    private var running: Job?

    /// True from ``run(_:then:)`` until its result was taken, or abandoned.
    var isBusy: Bool { running != nil }

    /// Has work done, and continues with its result in ``step()``. It must not be busy.
    func run<Value: Sendable>(
        _ work: @escaping @Sendable () throws -> Value, then: @escaping (Result<Value, any Error>) -> Void
    ) {
        let descriptor = csystem_event()
        guard descriptor >= 0 else { return then(.failure(SystemError("eventfd", ""))) }
        let outcome = Outcome<Value>()
        let job = Job(
            File(descriptor: descriptor, path: "an eventfd"), { outcome.result = Result { try work() } },
            { then(outcome.result ?? .failure(EngineError("the work has no result"))) })
        running = job
        // Without another thread the loop waits for the work.
        if !DetachedThread.start({ job.run() }) { job.run() }
    }

    /// Drops the result of what is under way: its thread goes on to its end.
    func abandon() { running = nil }

    // MARK: - In the engine's loop

    var polled: [pollfd] {
        running.map { [pollfd(fd: $0.end.descriptor, events: Int16(POLLIN), revents: 0)] } ?? []
    }

    /// Continues with what has ended.
    func step() {
        guard let job = running, job.hasEnded else { return }
        running = nil
        job.finish()
    }
}

/// A thread that ends by itself. It takes no signals: they are the loop's.
enum DetachedThread {
    private final class Body: Sendable {
        let run: @Sendable () -> Void

        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// - Returns: false when there can be no other thread.
    static func start(_ body: @escaping @Sendable () -> Void) -> Bool {
        // The thread inherits the mask.
        var (all, before) = (sigset_t(), sigset_t())
        sigfillset(&all)
        pthread_sigmask(SIG_SETMASK, &all, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        var thread = pthread_t()
        let reference = Unmanaged.passRetained(Body(body))
        let failure = pthread_create(
            &thread, nil,
            { context in
                if let context { Unmanaged<Body>.fromOpaque(context).takeRetainedValue().run() }
                return nil
            }, reference.toOpaque())
        guard failure == 0 else {
            reference.release()
            return false
        }
        pthread_detach(thread)
        return true
    }
}
