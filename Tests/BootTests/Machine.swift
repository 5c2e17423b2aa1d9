import Files
import Glibc
import ImageBuilder
import Processes
import Testing

/// A running machine, with its events and its console.
final class Machine {
    let folder: String
    private let process: RunningProcess
    private let monitor: File
    private let serial: File
    private let drain: RunningProcess
    private let serialDrain: RunningProcess

    /// - Parameter inheriting: files that QEMU has as its descriptors 3, 4, …
    init(_ machine: VirtualMachine, in folder: String, inheriting: [File] = []) throws {
        self.folder = folder
        try FileSystem.makeDirectory(folder)
        for name in ["events", "console"] { try FileSystem.replace("\(folder)/\(name)", with: "") }
        var machine = machine
        machine.events = "\(folder)/events"
        let qemu = try QEMU.find()
        // Named pipes, so that the monitor needs no socket.
        for name in ["monitor.in", "monitor.out", "serial.in", "serial.out"]
        where !FileSystem.exists("\(folder)/\(name)") {
            #expect(mkfifo("\(folder)/\(name)", 0o600) == 0)
        }
        monitor = try File("\(folder)/monitor.in", O_RDWR)
        serial = try File("\(folder)/serial.in", O_RDWR)
        // QEMU blocks on a pipe that is not read.
        drain = try Command("cat", ["\(folder)/monitor.out"]).start(
            output: File("/dev/null", O_WRONLY))
        serialDrain = try Command("cat", ["\(folder)/serial.out"]).start(output: File("/dev/null", O_WRONLY))
        let arguments =
            try machine.arguments() + [
                "-display", "none", "-no-reboot", "-chardev",
                "pipe,id=serial,path=\(folder)/serial,logfile=\(folder)/console",
                "-serial", "chardev:serial",
                "-chardev", "pipe,id=monitor,path=\(folder)/monitor", "-mon", "chardev=monitor,mode=readline",
            ]
        process = try Command(qemu, arguments).start(
            output: File("\(folder)/qemu", O_WRONLY | O_CREAT | O_TRUNC), inheriting: inheriting)
    }

    var console: String { (try? String(decoding: FileSystem.read("\(folder)/console"), as: UTF8.self)) ?? "" }
    private var qemuOutput: String { (try? String(decoding: FileSystem.read("\(folder)/qemu"), as: UTF8.self)) ?? "" }

    /// All events so far, a line each.
    var events: [String] {
        let bytes = (try? FileSystem.read("\(folder)/events")) ?? []
        return bytes.split(separator: UInt8(ascii: "\n")).map { String(decoding: $0, as: UTF8.self) }
    }

    func event(_ name: String) -> String? { events.first { $0.contains("\"event\":\"\(name)\"") } }

    /// Waits for an event; nil when the machine ends, and after `seconds`.
    func wait(for name: String, seconds: Double = 90) -> String? {
        let end = Clock.seconds + seconds
        while Clock.seconds < end {
            if let event = event(name) { return event }
            if process.poll() != nil { return event(name) }
            usleep(50_000)
        }
        return nil
    }

    /// Waits for a text on the console; false after `seconds`.
    func wait(forConsole text: String, seconds: Double = 60) -> Bool {
        let end = Clock.seconds + seconds
        while Clock.seconds < end, !console.contains(text) { usleep(50_000) }
        return console.contains(text)
    }

    /// Waits for the machine's end; false when it still runs after `seconds`.
    func waitForEnd(seconds: Double = 60) -> Bool {
        let end = Clock.seconds + seconds
        while Clock.seconds < end {
            if process.poll() != nil { return true }
            usleep(50_000)
        }
        return false
    }

    /// Sends a command to QEMU's monitor.
    func tell(_ command: String) throws {
        let text = Array((command + "\n").utf8)
        #expect(write(monitor.descriptor, text, text.count) == text.count)
    }

    /// Types on the serial console.
    func type(_ text: String) throws {
        let text = Array(text.utf8)
        #expect(write(serial.descriptor, text, text.count) == text.count)
    }

    func kill() {
        process.kill()
        _ = waitForEnd(seconds: 10)
    }

    /// Events, console and QEMU's messages, for a failing test.
    var story: String {
        "events: \(events.joined(separator: "\n"))\nconsole: \(console.suffix(1500))\nQEMU: \(qemuOutput.suffix(500))"
    }

    /// Boots a machine and waits for an event.
    static func start(
        _ machine: VirtualMachine, in folder: String, until event: String, seconds: Double = 90
    ) throws -> (machine: Machine, event: String?) {
        let running = try Machine(machine, in: folder)
        return (running, running.wait(for: event, seconds: seconds))
    }
}

/// The value of a text field in an event.
func field(_ name: String, of event: String?) -> String? {
    guard let event, let range = event.firstRange(of: "\"\(name)\":\"") else { return nil }
    return String(event[range.upperBound...].prefix { $0 != "\"" })
}
