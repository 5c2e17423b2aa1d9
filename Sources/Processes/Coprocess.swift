import CSystem
import Files
import Glibc
import Synchronization

/// A program that reads requests from its standard input and answers each on its standard output, a
/// line each: a coprocess (bash(1), `coproc`).
///
/// It runs as this process's user in a session of its own, in `/`, with the environment of a
/// ``Command``. It is killed, with its process group, when the last reference to it is gone, and when
/// the thread that started it ends.
public final class Coprocess {
    /// Why no answer came. The program has ended by then, or was killed.
    public enum Failure: Error, Sendable, Hashable {
        /// It did not answer in time.
        case late(seconds: Double)
        /// It ended: with the exit code, or 128 and the signal's number. Nil where it closed its output
        /// and went on, and was killed.
        case ended(status: Int32?)
        /// Its answer has more bytes than allowed.
        case tooLong(limit: Int)
        /// It wrote what no request asked for.
        case unasked(String)
        /// It answered before it had read the request.
        case early(String)
    }

    private let pid: pid_t
    private let input: Pipe
    private let output: Pipe
    private let errors: Pipe
    private let limit: Int
    private let report: (String) -> Void
    private var unsent: ArraySlice<UInt8> = []
    private var received: [UInt8] = []
    private var errorText: [UInt8] = []
    private var reported = 0
    /// The exit code, or 128 and the signal's number, once it has ended.
    private var status: Int32?

    /// Bytes of one line of standard error, and of all that is reported of it.
    private static let errorLineLimit = 1000
    private static let errorLimit = 64 << 10
    /// Seconds that a program which closed its output has to end by itself, and a killed one to be gone.
    private static let lastSeconds = 1.0

    /// Starts a program.
    ///
    /// - Parameters:
    ///   - program: an absolute path.
    ///   - limit: bytes of an answer.
    ///   - report: takes the lines of its standard error, the first 64 KiB of them.
    public init(
        _ program: String, _ arguments: [String], limit: Int, report: @escaping (String) -> Void
    ) throws(SystemError) {
        Self.reap()
        input = try Pipe()
        output = try Pipe()
        errors = try Pipe()
        pid = try Self.spawn(
            program, arguments, input: input.reading, output: output.writing, error: errors.writing)
        (self.limit, self.report) = (limit, report)
        input.closeReading()
        output.closeWriting()
        errors.closeWriting()
        for descriptor in [input.writing, output.reading, errors.reading] {
            _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        }
    }

    deinit { kill() }

    private static func spawn(
        _ program: String, _ arguments: [String], input: Int32, output: Int32, error: Int32
    ) throws(SystemError) -> pid_t {
        let environment = Command(program, []).environment
        let argv = ([program] + arguments).map { strdup($0) } + [nil]
        let envp = environment.sorted { $0.key < $1.key }.map { strdup("\($0.key)=\($0.value)") } + [nil]
        let folder = strdup("/")
        defer { for pointer in argv + envp + [folder] { free(pointer) } }
        var step = [CChar](repeating: 0, count: 28)
        let result = program.withCString { program in
            argv.withUnsafeBufferPointer { argv in
                envp.withUnsafeBufferPointer { envp in
                    var child = csystem_child()
                    child.program = program
                    child.umask = 0o022
                    (child.arguments, child.environment) = (argv.baseAddress, envp.baseAddress)
                    child.directory = folder.map { UnsafePointer($0) }
                    (child.cgroup, child.input, child.output, child.error) = (-1, input, output, error)
                    child.ends_with_parent = 1
                    // What it starts is killed with it.
                    child.new_session = 1
                    return csystem_spawn(&child, &step)
                }
            }
        }
        guard result > 0 else {
            let what = String(decoding: step.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            throw SystemError(what.isEmpty ? "clone3" : what, program, code: -result)
        }
        return result
    }

    // MARK: - Requests and answers

    /// Sends a request and waits for its answer.
    ///
    /// - Parameters:
    ///   - request: one line, without its end.
    ///   - deadline: seconds.
    ///   - whileWaiting: is called at least once a second.
    /// - Returns: a line without its end.
    public func ask(
        _ request: [UInt8], deadline: Double, whileWaiting: () -> Void = {}
    ) throws(Failure) -> [UInt8] {
        try send(request)
        let end = Pipe.now() + deadline
        while true {
            let left = end - Pipe.now()
            guard left > 0 else {
                kill()
                throw .late(seconds: deadline)
            }
            if let answer = try exchange(milliseconds: Int(min(1, left) * 1000) + 1) { return answer }
            whileWaiting()
        }
    }

    /// Begins to send a request; ``exchange(milliseconds:)`` sends the rest and has the answer.
    ///
    /// - Parameter request: one line, without its end.
    public func send(_ request: [UInt8]) throws(Failure) {
        let early = try exchange(milliseconds: 0)
        guard early == nil, received.isEmpty else {
            kill()
            throw .unasked(Self.text(early ?? received))
        }
        unsent = request[...] + [UInt8(ascii: "\n")]
    }

    /// What to poll for until the answer is there.
    public var polled: [pollfd] {
        [
            pollfd(fd: unsent.isEmpty ? -1 : input.writing, events: Int16(POLLOUT), revents: 0),
            pollfd(fd: output.reading, events: Int16(POLLIN), revents: 0),
            pollfd(fd: errors.reading, events: Int16(POLLIN), revents: 0),
        ].filter { $0.fd >= 0 }
    }

    /// Sends and receives what it can within a time.
    ///
    /// - Returns: an answer, a line without its end; nil where it is not there yet.
    public func exchange(milliseconds: Int) throws(Failure) -> [UInt8]? {
        guard status == nil, output.reading >= 0 else { throw .ended(status: status) }
        var polled = [
            pollfd(fd: unsent.isEmpty ? -1 : input.writing, events: Int16(POLLOUT), revents: 0),
            pollfd(fd: output.reading, events: Int16(POLLIN), revents: 0),
            pollfd(fd: errors.reading, events: Int16(POLLIN), revents: 0),
        ]
        guard poll(&polled, nfds_t(polled.count), Int32(clamping: milliseconds)) > 0 else { return nil }
        if polled[2].revents != 0 { readErrors() }
        if polled[0].revents != 0 { sendMore() }
        return polled[1].revents == 0 ? nil : try readAnswer()
    }

    private func sendMore() {
        let (count, code) = Self.write(unsent, to: input.writing)
        if count > 0 {
            unsent = unsent.dropFirst(count)
        } else if code != EAGAIN, code != EINTR {
            // It reads no more: what it still has to say comes with its end.
            unsent = []
            input.closeWriting()
        }
    }

    /// write(2) that reports a closed pipe as EPIPE only, and not by the signal that would end this
    /// process.
    private static func write(_ bytes: ArraySlice<UInt8>, to descriptor: Int32) -> (count: Int, code: Int32) {
        var (broken, before) = (sigset_t(), sigset_t())
        sigemptyset(&broken)
        sigaddset(&broken, SIGPIPE)
        pthread_sigmask(SIG_BLOCK, &broken, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
        let code = errno
        if count < 0, code == EPIPE {
            var none = timespec()
            _ = sigtimedwait(&broken, nil, &none)
        }
        return (count, code)
    }

    private func readAnswer() throws(Failure) -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = read(output.reading, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            if count < 0, errno == EAGAIN { return nil }
            guard count > 0 else { throw .ended(status: stop(within: Self.lastSeconds)) }
            let start = received.count
            received += buffer[..<count]
            let end = received[start...].firstIndex(of: UInt8(ascii: "\n"))
            guard (end ?? received.count) <= limit else {
                kill()
                throw .tooLong(limit: limit)
            }
            guard let end else { continue }
            let (answer, rest) = (Array(received[..<end]), Array(received[(end + 1)...]))
            received = []
            guard rest.isEmpty, unsent.isEmpty else {
                kill()
                throw rest.isEmpty ? .early(Self.text(answer)) : .unasked(Self.text(rest))
            }
            return answer
        }
    }

    private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes.prefix(120), as: UTF8.self) }

    // MARK: - Its end

    /// Closes its standard input, waits for its end, and kills it where that does not come.
    ///
    /// - Returns: the exit code, or 128 and the signal's number; nil where it was killed.
    @discardableResult public func stop(within seconds: Double) -> Int32? {
        unsent = []
        input.closeWriting()
        output.closeReading()
        let end = Pipe.now() + seconds
        while !hasEnded() {
            readErrors()
            guard Pipe.now() < end else {
                kill()
                return nil
            }
            usleep(1000)
        }
        readErrors()
        return status
    }

    private func hasEnded() -> Bool {
        if status != nil { return true }
        var info = siginfo_t()
        // Its processes are killed while its number is still its own.
        if waitid(P_PID, id_t(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0, info.si_signo == SIGCHLD {
            Glibc.kill(-pid, SIGKILL)
        }
        var code: Int32 = 0
        let ended = waitpid(pid, &code, WNOHANG)
        if ended == pid { status = code & 0x7F == 0 ? code >> 8 & 0xFF : 128 + (code & 0x7F) }
        // Another caller has waited for it.
        if ended < 0, errno == ECHILD { status = 0 }
        return status != nil
    }

    /// Kills it with its process group.
    private func kill() {
        guard status == nil else { return }
        readErrors()
        Glibc.kill(-pid, SIGKILL)
        let end = Pipe.now() + Self.lastSeconds
        while !hasEnded(), Pipe.now() < end { usleep(1000) }
        // One that waits for a disk is not gone by then: the next one to start reaps it.
        if status == nil { Self.unreaped.withLock { $0.append(pid) } }
        status = status ?? 128 + SIGKILL
    }

    private static let unreaped = Mutex<[pid_t]>([])

    private static func reap() {
        unreaped.withLock { pids in
            pids.removeAll { pid in
                var code: Int32 = 0
                return waitpid(pid, &code, WNOHANG) != 0
            }
        }
    }

    /// Reports what is there of its standard error, at most so many pieces of it.
    private func readErrors() {
        var buffer = [UInt8](repeating: 0, count: 1 << 14)
        for _ in 0..<16 where errors.reading >= 0 {
            let count = read(errors.reading, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            if count < 0, errno == EAGAIN { return }
            if count <= 0 { errors.closeReading() }
            errorText += buffer[..<max(0, count)]
            reportLines(isLast: count <= 0)
        }
    }

    private func reportLines(isLast: Bool) {
        var lines = errorText.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        let rest = lines.popLast() ?? []
        if isLast || rest.count > Self.errorLineLimit {
            lines.append(rest)
            errorText = []
        } else {
            errorText = Array(rest)
        }
        for line in lines where !line.isEmpty && reported <= Self.errorLimit {
            reported += line.count
            report(
                reported <= Self.errorLimit
                    ? String(decoding: line.prefix(Self.errorLineLimit), as: UTF8.self)
                    : "it writes more to its standard error than \(Self.errorLimit) bytes: the rest is left out")
        }
    }
}
