import CSystem
import Clocks
import Glibc

/// The box's own watchdog: fed by PID 1's loop and by nothing else, so that a PID 1 that hangs ends in a restart.
///
/// Opened in the initramfs, as soon as its driver is there, and kept over the change to the root: from then on a kernel or a start that hangs ends, too.
enum HardwareWatchdog {
    nonisolated(unsafe) private static var descriptor: Int32 = -1
    nonisolated(unsafe) private static var nextPing = 0
    /// Milliseconds.
    nonisolated(unsafe) private static var interval = 10_000

    /// Seconds without food after which the hardware restarts the box.
    private static let timeout: Int32 = 60

    /// Opens the first watchdog that there is, if none is open yet.
    static func open() {
        guard descriptor < 0 else { return }
        for name in Text.list("/dev") where name.hasPrefix("watchdog") && name != "watchdog" {
            descriptor = Glibc.open("/dev/\(name)", O_WRONLY | O_CLOEXEC)
            if descriptor < 0 { continue }
            // The hardware has the last word, and may give less time than it was asked for.
            let seconds = csystem_watchdog_timeout(descriptor, Self.timeout)
            begin(seconds: Int(seconds))
            Console.say("the hardware's watchdog \(name) restarts a box that hangs for \(seconds) s")
            EventPort.send("watchdog", [("name", name), ("seconds", "\(seconds)")])
            return
        }
    }

    private static func begin(seconds: Int) {
        interval = max(500, min(10_000, seconds * 1000 / 3))
        nextPing = 0
    }

    /// For /run/vcpe/boot: what ``adopt(_:)`` takes in the root. The descriptor lives on over the next exec.
    static func handOver() -> String? {
        guard descriptor >= 0, fcntl(descriptor, F_SETFD, 0) == 0 else { return nil }
        return "\(descriptor)"
    }

    /// Goes on with what the initramfs has opened.
    static func adopt(_ text: String?) {
        guard descriptor < 0, let text, let number = Int32(text), number > 2,
            fcntl(number, F_SETFD, FD_CLOEXEC) == 0
        else { return }
        descriptor = number
        begin(seconds: Int(csystem_watchdog_timeout(descriptor, Self.timeout)))
    }

    static var due: Int? { descriptor >= 0 ? nextPing : nil }

    static func feed() {
        guard descriptor >= 0, Uptime.milliseconds >= nextPing else { return }
        csystem_watchdog_ping(descriptor)
        nextPing = Uptime.milliseconds + interval
    }
}
