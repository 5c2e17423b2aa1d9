import CSystem
import Glibc

/// The box's own watchdog: fed by PID 1's loop and by nothing else, so that a PID 1 that hangs ends in a restart.
struct HardwareWatchdog {
    private var descriptor: Int32 = -1
    private var nextPing = 0
    /// Milliseconds.
    private var interval = 10_000

    /// Seconds without food after which the hardware restarts the box.
    private static let timeout: Int32 = 60

    /// Opens the first watchdog that there is, if none is open yet.
    mutating func open() {
        guard descriptor < 0 else { return }
        for name in Text.list("/dev") where name.hasPrefix("watchdog") && name != "watchdog" {
            descriptor = Glibc.open("/dev/\(name)", O_WRONLY | O_CLOEXEC)
            if descriptor < 0 { continue }
            // The hardware has the last word, and may give less time than it was asked for.
            let seconds = csystem_watchdog_timeout(descriptor, Self.timeout)
            interval = max(500, min(10_000, Int(seconds) * 1000 / 3))
            Console.say("the hardware's watchdog \(name) restarts a box that hangs for \(seconds) s")
            Events.send("watchdog", [("name", name), ("seconds", "\(seconds)")])
            nextPing = 0
            return
        }
    }

    var due: Int? { descriptor >= 0 ? nextPing : nil }

    mutating func feed() {
        guard descriptor >= 0, Uptime.milliseconds >= nextPing else { return }
        csystem_watchdog_ping(descriptor)
        nextPing = Uptime.milliseconds + interval
    }
}
