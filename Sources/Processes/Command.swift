import Files
import Glibc

/// Another program, run to its end with its output taken in.
public struct Command: Sendable {
    /// A program that ended.
    public struct Result: Sendable {
        /// The exit code, or 128 and the signal's number.
        public var status: Int32
        public var output: [UInt8]
        public var errors: [UInt8]

        /// Standard output as text.
        public var text: String { String(decoding: output, as: UTF8.self) }
        /// Standard error as text.
        public var errorText: String { String(decoding: errors, as: UTF8.self) }
    }

    /// A path, or a name that is looked up in PATH.
    public var program: String
    public var arguments: [String]
    /// The whole environment of the program: nothing is inherited, so that no locale or time zone shapes what it writes.
    public var environment: [String: String]

    /// Of a program that nobody trusts; ``begin(input:output:)`` starts it so.
    public var confinement: Confinement?

    public init(_ program: String, _ arguments: [String], environment: [String: String] = [:]) {
        self.program = program
        self.arguments = arguments
        self.environment = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"].merging(
            environment
        ) { $1 }
    }

    /// Runs it, whatever its exit code will be.
    ///
    /// - Parameters:
    ///   - input: becomes standard input; empty when nil.
    ///   - output: takes standard output instead of the result's `output`.
    public func run(input: File? = nil, output: File? = nil) throws(SystemError) -> Result {
        try begin(input: input, output: output).finishWithin(deadline: nil, limit: nil).result
    }

    /// A program that took longer, or said more, than it may; it was killed.
    public struct Overrun: Error, Sendable, Hashable, CustomStringConvertible {
        public var description: String

        fileprivate static func late(_ deadline: Double) -> Overrun {
            Overrun(description: "it took longer than \(Int(deadline)) s")
        }
    }

    /// Starts it; ``Running/finish(deadline:limit:)`` waits for its end.
    public func begin(input: File? = nil, output: File? = nil) throws(SystemError) -> Running {
        let out = try Pipe()
        let err = try Pipe()
        let pid: pid_t
        if let confinement {
            pid = try confinement.spawn(
                program, arguments, environment: environment, input: input?.descriptor ?? -1,
                output: output?.descriptor ?? out.writing, error: err.writing)
        } else {
            var actions = posix_spawn_file_actions_t()
            posix_spawn_file_actions_init(&actions)
            defer { posix_spawn_file_actions_destroy(&actions) }
            if let input {
                posix_spawn_file_actions_adddup2(&actions, input.descriptor, 0)
            } else {
                posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
            }
            posix_spawn_file_actions_adddup2(&actions, output?.descriptor ?? out.writing, 1)
            posix_spawn_file_actions_adddup2(&actions, err.writing, 2)
            pid = try spawn(&actions)
        }
        out.closeWriting()
        err.closeWriting()
        return Running(pid: pid, program: program, out: out, err: err)
    }

    /// A program at work whose output is taken in.
    public final class Running {
        private let pid: pid_t
        private let program: String
        private let out: Pipe
        private let err: Pipe
        private var isOver = false

        fileprivate init(pid: pid_t, program: String, out: Pipe, err: Pipe) {
            (self.pid, self.program, self.out, self.err) = (pid, program, out, err)
        }

        deinit {
            // Whoever began it and lost interest must leave nothing behind.
            if !isOver {
                kill(pid, SIGKILL)
                var status: Int32 = 0
                waitpid(pid, &status, 0)
            }
        }

        /// Waits for its end, within bounds.
        ///
        /// - Parameters:
        ///   - deadline: seconds after which it is killed.
        ///   - limit: bytes of output after which it is killed.
        public func finish(deadline: Double, limit: Int) throws -> Result {
            let (result, overrun) = try finishWithin(deadline: deadline, limit: limit)
            if let overrun { throw overrun }
            return result
        }

        fileprivate func finishWithin(
            deadline: Double?, limit: Int?
        ) throws(SystemError) -> (result: Result, overrun: Overrun?) {
            let begin = Pipe.now()
            var (text, errors, overrun) = Pipe.drain(out, err, deadline: deadline, limit: limit)
            var status: Int32?
            // Who has nothing more to say may still go on.
            while let deadline, overrun == nil, status == nil {
                status = try wait(WNOHANG)
                if status != nil { break }
                if Pipe.now() - begin < deadline { usleep(1000) } else { overrun = .late(deadline) }
            }
            if overrun != nil { kill(pid, SIGKILL) }
            if status == nil { status = try wait(0) }
            isOver = true
            let ended = status ?? 0
            let signal = ended & 0x7F
            return (
                Result(status: signal == 0 ? ended >> 8 & 0xFF : 128 + signal, output: text, errors: errors), overrun
            )
        }

        /// The status of its end as waitpid(2) has it; nil while it goes on.
        private func wait(_ options: Int32) throws(SystemError) -> Int32? {
            var status: Int32 = 0
            while true {
                let ended = waitpid(pid, &status, options)
                if ended == pid { return status }
                if ended == 0 { return nil }
                guard errno == EINTR else { throw SystemError("waitpid", program) }
            }
        }
    }

    /// Runs it, and throws when it does not end with 0.
    @discardableResult
    public func check(input: File? = nil, output: File? = nil) throws -> Result {
        let result = try run(input: input, output: output)
        guard result.status == 0 else { throw CommandFailure(command: self, result: result) }
        return result
    }
}

/// A program that ended with another exit code than 0.
public struct CommandFailure: Error, CustomStringConvertible {
    public var command: Command
    public var result: Command.Result

    public var description: String {
        let program = FileSystem.name(of: command.program)
        return
            "\(program) ended with \(result.status): \(result.errorText.split(separator: "\n").joined(separator: "\n  "))"
    }
}

/// A pipe(2) whose ends are close-on-exec.
private final class Pipe {
    let reading: Int32
    private(set) var writing: Int32

    init() throws(SystemError) {
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else { throw SystemError("pipe", "") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        (reading, writing) = (ends[0], ends[1])
    }

    deinit {
        close(reading)
        if writing >= 0 { close(writing) }
    }

    func closeWriting() {
        close(writing)
        writing = -1
    }

    /// Reads both to their ends at once: a program that fills one while we wait on the other would never end.
    ///
    /// - Returns: what was read, and which bound was reached.
    static func drain(
        _ first: Pipe, _ second: Pipe, deadline: Double?, limit: Int?
    ) -> ([UInt8], [UInt8], Command.Overrun?) {
        var results: [[UInt8]] = [[], []]
        var polled = [
            pollfd(fd: first.reading, events: Int16(POLLIN), revents: 0),
            pollfd(fd: second.reading, events: Int16(POLLIN), revents: 0),
        ]
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        let end = deadline.map { now() + $0 }
        while polled.contains(where: { $0.fd >= 0 }) {
            let left = end.map { $0 - now() }
            if let left, left <= 0 {
                return (results[0], results[1], .late(deadline ?? 0))
            }
            if poll(&polled, 2, left.map { Int32($0 * 1000) + 1 } ?? -1) < 0, errno != EINTR { break }
            for i in 0..<2 where polled[i].fd >= 0 && polled[i].revents != 0 {
                let count = read(polled[i].fd, &buffer, buffer.count)
                if count > 0 {
                    results[i] += buffer[..<count]
                    if let limit, results[i].count > limit {
                        return (results[0], results[1], .init(description: "it said more than \(limit) bytes"))
                    }
                } else if count == 0 || errno != EINTR {
                    polled[i].fd = -1
                }
            }
        }
        return (results[0], results[1], nil)
    }

    /// Seconds of the monotonic clock.
    static func now() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}

extension Command {
    /// Makes this process another program, with its environment and its terminal.
    ///
    /// - Returns: only when there is no such program.
    public static func become(_ program: String, _ arguments: [String]) -> SystemError {
        execv(program, ([program] + arguments).map { strdup($0) } + [nil])
        return SystemError("execve", program)
    }
}
