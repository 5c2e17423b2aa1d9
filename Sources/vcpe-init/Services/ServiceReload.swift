import Clocks
import Glibc
import Units

/// The command that makes a running service read its configuration again, and what became of the
/// last one.
struct ServiceReload {
    /// Milliseconds that the command has.
    private static let deadline = Interval.scaled(30_000)

    /// The command's process; 0 for none.
    private(set) var pid: pid_t = 0
    /// A request came before the service was ready, or while a command ran.
    var isPending = false
    /// The last column of the report.
    private(set) var status = ""
    private var end = 0
    private var isLate = false

    /// When something is due; nil for never.
    var due: Int? { pid > 0 ? end : nil }

    mutating func started(_ process: pid_t) {
        (pid, isLate, status) = (process, false, "reloading")
        end = Uptime.milliseconds + Self.deadline
    }

    mutating func done() { status = "reloaded" }

    mutating func failed(_ reason: String) { status = "reload failed: \(reason)" }

    /// Handles the command's exit.
    ///
    /// - Returns: why it failed; nil when it didn't.
    mutating func ended(_ code: Int32, of command: Unit.Command) -> String? {
        pid = 0
        if !isLate, code == 0 || command.mayFail {
            done()
            return nil
        }
        let what = isLate ? "did not end within \(Self.deadline / 1000) s" : "ended with \(code)"
        let reason = "\(command.words[0]) \(what)"
        failed(reason)
        return reason
    }

    /// Kills a command that has had its time.
    mutating func check() {
        guard pid > 0, Uptime.milliseconds >= end else { return }
        isLate = true
        end = Uptime.milliseconds + 1000
        // It leads a session of its own.
        kill(-pid, SIGKILL)
        kill(pid, SIGKILL)
    }

    /// Ends with the service.
    mutating func cancel() {
        if pid > 0 {
            kill(-pid, SIGKILL)
            kill(pid, SIGKILL)
            failed("the service ended")
        }
        (pid, isPending) = (0, false)
    }
}
