import CSystem
import Files
import Glibc

/// Another program, run to its end, with its output in memory.
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
    /// The whole environment of the program: nothing is inherited, so that no locale or time zone
    /// shapes its output.
    public var environment: [String: String]

    /// How the box runs a program of its image for a plugin.
    public var imageProgram: ImageProgram?
    /// How a program of unknown origin is run; ``program`` and ``arguments`` are then paths of the
    /// sandbox.
    public var sandbox: Sandbox?
    /// The program's name for itself in a sandbox; nil for ``program``.
    public var argumentZero: String?

    /// The program's name in errors; nil for the last component of ``program``.
    public var name: String?

    public init(_ program: String, _ arguments: [String], environment: [String: String] = [:]) {
        self.program = program
        self.arguments = arguments
        self.environment = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"].merging(
            environment
        ) { $1 }
    }

    /// Runs it to its end; any exit code is a result.
    ///
    /// - Parameters:
    ///   - input: becomes standard input; empty when nil.
    ///   - output: takes standard output instead of the result's `output`.
    public func run(input: File? = nil, output: File? = nil) throws(SystemError) -> Result {
        try begin(input: input, output: output).finishWithin(deadline: nil, limit: nil).result
    }

    /// A program that ran longer, or wrote more, than its bound; it was killed.
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
        var group: CallGroup?
        if let sandbox {
            group = try CallGroup.make(memory: sandbox.memory, processes: sandbox.processes)
            pid = try sandbox.spawn(
                program, [argumentZero ?? program] + arguments, environment: environment,
                input: input?.descriptor ?? -1, output: output?.descriptor ?? out.writing, error: err.writing,
                group: group)
        } else if let imageProgram {
            pid = try imageProgram.spawn(
                program, arguments, environment: environment, input: input?.descriptor ?? -1,
                output: output?.descriptor ?? out.writing, error: err.writing)
        } else if Children.areBound {
            let files: [Int32] = [input?.descriptor ?? -1, output?.descriptor ?? out.writing, err.writing]
            pid = try Children.start(
                .init(program: program, arguments: arguments, environment: environment, files: files))
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
        return Running(pid: pid, program: program, out: out, err: err, group: group)
    }

    /// A running program, with its output in memory.
    public final class Running {
        private let pid: pid_t
        private let program: String
        private let out: Pipe
        private let err: Pipe
        private var isOver = false
        /// Is removed with this, after the program's end.
        private let group: CallGroup?

        fileprivate init(pid: pid_t, program: String, out: Pipe, err: Pipe, group: CallGroup?) {
            (self.pid, self.program, self.out, self.err, self.group) = (pid, program, out, err, group)
        }

        deinit {
            // Without a reference left no caller will wait for it.
            if !isOver {
                kill(pid, SIGKILL)
                var status: Int32 = 0
                waitpid(pid, &status, 0)
            }
        }

        private var collected: (output: [UInt8], errors: [UInt8]) = ([], [])
        private var openOut = true
        private var openErr = true

        /// What to poll for; empty when only the end is awaited, of which no descriptor tells.
        public var polled: [pollfd] {
            [(out, openOut), (err, openErr)].filter(\.1).map {
                pollfd(fd: $0.0.reading, events: Int16(POLLIN), revents: 0)
            }
        }

        /// Takes in what it has written by now, without waiting.
        ///
        /// - Parameter limit: bytes of output after which it is killed.
        /// - Returns: the result once it has ended; nil before.
        /// - Throws: ``Overrun`` when it wrote more; it is killed with the last reference to this.
        public func progress(limit: Int) throws -> Result? {
            openOut = openOut && out.take(into: &collected.output, most: limit + 1)
            openErr = openErr && err.take(into: &collected.errors, most: limit + 1)
            guard collected.output.count + collected.errors.count <= limit else {
                throw Overrun(description: "it said more than \(limit) bytes")
            }
            guard !openOut, !openErr, let status = try wait(WNOHANG) else { return nil }
            isOver = true
            return Result(status: Self.code(status), output: collected.output, errors: collected.errors)
        }

        /// The exit code of a status as waitpid(2) has it, or 128 and the signal's number.
        private static func code(_ status: Int32) -> Int32 {
            let signal = status & 0x7F
            return signal == 0 ? status >> 8 & 0xFF : 128 + signal
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
            // A program that has closed its output may still run.
            while let deadline, overrun == nil, status == nil {
                status = try wait(WNOHANG)
                if status != nil { break }
                if Pipe.now() - begin < deadline { usleep(1000) } else { overrun = .late(deadline) }
            }
            if overrun != nil { kill(pid, SIGKILL) }
            if status == nil { status = try wait(0) }
            isOver = true
            return (Result(status: Self.code(status ?? 0), output: text, errors: errors), overrun)
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

    /// Runs it, and throws ``CommandFailure`` for another exit code than 0.
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
        let text = result.errorText.split(separator: "\n").joined(separator: "\n  ")
        return "\(command.name ?? FileSystem.name(of: command.program)) exited with \(result.status): \(text)"
    }
}

/// A pipe2(2) whose ends are close-on-exec.
final class Pipe {
    private(set) var reading: Int32
    private(set) var writing: Int32

    init() throws(SystemError) {
        var (reading, writing): (Int32, Int32) = (-1, -1)
        guard csystem_blocking_pipe(&reading, &writing) == 0 else { throw SystemError("pipe2", "") }
        (self.reading, self.writing) = (reading, writing)
    }

    deinit {
        closeReading()
        closeWriting()
    }

    func closeReading() {
        if reading >= 0 { close(reading) }
        reading = -1
    }

    func closeWriting() {
        if writing >= 0 { close(writing) }
        writing = -1
    }

    /// Reads what is there now.
    ///
    /// - Parameter most: bytes in `bytes` from which on no more are read.
    /// - Returns: false at its end.
    func take(into bytes: inout [UInt8], most: Int) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while bytes.count < most {
            var polled = pollfd(fd: reading, events: Int16(POLLIN), revents: 0)
            guard poll(&polled, 1, 0) > 0 else { return true }
            let count = read(reading, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            if count <= 0 { return false }
            bytes += buffer[..<count]
        }
        return true
    }

    /// Reads both to their ends at once: a program that fills one while the other is awaited would
    /// never end.
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
