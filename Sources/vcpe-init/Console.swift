import CSystem
import Clocks
import Glibc
import Terminals

/// What people and machines are told.
enum Console {
    /// Writes a line on /dev/console.
    ///
    /// Never waits: somebody's Ctrl-S, or a stray byte on a noisy serial line, must not stop PID 1. What doesn't fit is
    /// lost.
    static func say(_ text: String) {
        let console = open("/dev/console", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)
        write("vcpe: \(TerminalText.line(text))\n", to: console >= 0 ? console : 1)
        if console >= 0 { close(console) }
    }

    /// Writes a line on every console that the kernel uses: a box's person may look at any of them.
    static func sayEverywhere(_ text: String) {
        let line = "\r\nvcpe: \(TerminalText.lines(text))\r\n"
        let names = Text.read("/sys/class/tty/console/active").split(whereSeparator: { $0 == " " || $0 == "\n" })
        var written = false
        for name in names {
            let console = open("/dev/\(name)", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)
            if console < 0 { continue }
            write(line, to: console)
            close(console)
            written = true
        }
        if !written { write(line, to: 1) }
    }

    /// - Returns: whether all of it was written; errno says why not.
    @discardableResult
    static func write(_ text: String, to descriptor: Int32) -> Bool {
        var text = text
        return text.withUTF8 { bytes in
            var done = 0
            while done < bytes.count {
                let count = Glibc.write(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done)
                if count < 0, errno == EINTR { continue }
                if count <= 0 { return false }
                done += count
            }
            return true
        }
    }
}

/// Structured events for the test bench and for machines that watch: JSON, one object a line, on a virtio port.
enum EventPort {
    nonisolated(unsafe) private static var port: Int32 = -2

    /// Sends an event; without the port nothing happens.
    static func send(_ name: String, _ values: [(String, String)] = []) {
        if port < 0 { port = openPort() }
        guard port >= 0 else { return }
        let fields = ([("event", name), ("uptime", String(Uptime.milliseconds))] + values).map {
            "\(quoted($0.0)):\(quoted($0.1))"
        }
        Console.write("{\(fields.joined(separator: ","))}\n", to: port)
    }

    private static func openPort() -> Int32 {
        for name in Text.list("/sys/class/virtio-ports")
        where
            Text.read("/sys/class/virtio-ports/\(name)/name").hasPrefix("org.vcpe.events")
        {
            return open("/dev/\(name)", O_WRONLY | O_CLOEXEC | O_NONBLOCK)
        }
        return -1
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            if scalar == "\"" || scalar == "\\" { result += "\\" }
            result.unicodeScalars.append(scalar.value < 0x20 ? " " : scalar)
        }
        return result + "\""
    }
}

extension Uptime {
    /// Waits, and feeds the watchdog meanwhile.
    static func sleep(milliseconds: Int) {
        let end = Self.milliseconds + milliseconds
        while case let all = end - Self.milliseconds, all > 0 {
            HardwareWatchdog.feed()
            let left = min(all, 1000)
            var time = timespec(tv_sec: left / 1000, tv_nsec: left % 1000 * 1_000_000)
            nanosleep(&time, nil)
        }
    }
}

/// An operation that the kernel refused.
struct Failure: Error, CustomStringConvertible {
    var description: String
    /// errno(3); 0 where no call failed.
    var code: Int32 = 0

    init(_ text: String) { description = text }

    /// The call, its subject, and the errno by name.
    init(_ call: String, _ subject: String, code: Int32 = errno) {
        self.code = code
        let name = csystem_errno_name(code).map { String(cString: $0) } ?? "errno \(code)"
        description = "\(subject): \(call): \(String(cString: strerror(code))) (\(name))"
    }
}
