import CSystem
import Disks
import Documents
import Files
import Glibc
import Processes
import Slots

/// What the engine has done on a box that runs from a stick: by processes of its own, since it takes minutes.
struct StickInstaller {
    private static let program = "/usr/lib/vcpe/vcpe-engine"
    private let isStick: Bool
    /// Waits for a disk, or writes one.
    private var installing: RunningProcess?
    /// Lists disks on the consoles.
    private var offering: RunningProcess?
    /// The document's wish that was followed last; each is followed once.
    private var wish: String?

    init(places: Places) { isStick = StickInstallation.isStick(places) }

    /// Begins what the document wants; without anybody who could log in and ask, disks are offered on the consoles.
    mutating func follow(_ site: Node) {
        guard isStick else { return }
        if installing?.poll() != nil { installing = nil }
        if offering?.poll() != nil { offering = nil }
        let wanted = Self.value("system.install-to", in: site)
        if wanted != nil || Self.value("system.users", in: site) != nil {
            // What is typed there is somebody else's from now on.
            stopOffering()
            guard case .scalar(let scalar)? = wanted?.value, scalar.text != wish, installing == nil else { return }
            wish = scalar.text
            installing = start(["install", scalar.text])
        } else if offering == nil, installing == nil, !Self.isDebug {
            offering = start(["offer"])
        }
    }

    /// Begins what somebody asked for.
    mutating func install(onto disk: BlockDevice) throws {
        if installing?.poll() == nil, installing != nil {
            throw EngineError("a disk is written already: vcpectl disks")
        }
        stopOffering()
        installing = start(["install-disk", disk.name, disk.sequence])
    }

    private mutating func stopOffering() {
        guard let process = offering else { return }
        process.kill()
        while process.poll() == nil { usleep(1000) }
        offering = nil
    }

    private func start(_ words: [String]) -> RunningProcess? {
        do {
            return try Command(Self.program, words).start(output: File("/proc/self/fd/2", O_WRONLY))
        } catch {
            Log.say("\(error)")
            return nil
        }
    }

    private static func value(_ path: String, in site: Node) -> Node? {
        (try? DocumentPath(path)).flatMap { site.value(at: $0) }
    }

    /// There is a shell on the console, which reads what is typed.
    private static var isDebug: Bool { (try? KernelCommandLine())?["vcpe.debug"] != nil }
}

/// What such a process does, and says on all consoles.
public enum StickProcess {
    private static let consoles = Consoles(folder: "/dev")
    /// What was said last, for `vcpectl disks`.
    private static let said = "\(Places().state)/installing"
    /// Seconds between two looks at the disks; what two of them see is there.
    private static let interval: UInt32 = 5

    static var lastWords: String? { (try? FileSystem.read(said)).map { String(decoding: $0, as: UTF8.self) } }

    private static func say(_ text: String) {
        try? FileSystem.replace(said, with: text)
        consoles.say(text)
    }

    /// Installs the box onto the disk that a document wants, once it is there.
    ///
    /// - Parameter wish: as ``StickInstallation/wanted(_:)`` has it.
    /// - Returns: the process's exit code.
    public static func install(_ wish: String) -> Int32 {
        var (seen, complaint): ([String]?, String) = (nil, "")
        while true {
            do {
                let installation = try StickInstallation()
                let disks = installation.candidates.map { "\($0.device.name) \($0.device.sequence)" }
                // Drivers come one by one when a box starts, and disks after them.
                if disks == seen { return run(installation, try installation.wanted(wish)) }
                seen = disks
            } catch {
                if "\(error)" != complaint { say("the box is not installed onto a disk: \(error)") }
                complaint = "\(error)"
            }
            sleep(interval)
        }
    }

    /// Installs the box onto a disk that somebody has chosen.
    ///
    /// - Parameter sequence: of the disk that was shown.
    public static func install(name: String, sequence: String) -> Int32 {
        do {
            let installation = try StickInstallation()
            let disk = try installation.named(name)
            guard disk.device.sequence == sequence else {
                throw EngineError("\(name) is another disk than a moment ago")
            }
            return run(installation, disk)
        } catch {
            say("the box is not installed onto a disk: \(error)")
            return 1
        }
    }

    /// - Returns: where it did not come to its end; else it waits until the stick is gone, and the box restarts.
    private static func run(_ installation: StickInstallation, _ disk: StickInstallation.Candidate) -> Int32 {
        let device = disk.device
        do {
            // The program lies on the stick: it must go on when that is pulled.
            csystem_stay_in_memory()
            if disk.content == .thisRelease {
                say(
                    "\(device.summary): this release is on it already. Pull the stick out: the box starts from its disk then"
                )
            } else {
                say("the box is installed onto \(device.summary); all that is on it is lost")
                try installation.install(onto: device, say: say)
                say(
                    "\(device.path) is ready: written, read back and compared. Pull the stick out: the box starts from its disk then"
                )
            }
            installation.restartWithoutStick()
            return 0
        } catch {
            say("the box is not installed onto \(device.path): \(error)")
            return 1
        }
    }

    /// Offers the disks on every console, and takes the answer of whichever comes first.
    public static func offer() -> Int32 {
        guard let installation = try? StickInstallation() else { return 1 }
        sleep(interval)
        var terminals = consoles.names.compactMap { name -> pollfd? in
            let descriptor = open("/dev/\(name)", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)
            return descriptor < 0 ? nil : pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        }
        /// What was typed on each, and has to be typed once more.
        var chosen: [Int: StickInstallation.Candidate] = [:]
        func list() -> String {
            let disks = installation.candidates
            guard let first = disks.first else {
                return "this box runs from a stick, and has no disk to install itself onto"
            }
            return
                "this box runs from a stick: nothing is kept. Onto a disk it installs itself when you type the disk's name, such as "
                + "\(first.device.name), and Enter:" + disks.map { "\r\n  \($0.text)" }.joined()
        }
        consoles.say(list())
        while terminals.contains(where: { $0.fd >= 0 }) {
            guard poll(&terminals, nfds_t(terminals.count), -1) > 0 else { continue }
            for (place, terminal) in terminals.enumerated() where terminal.revents != 0 {
                var buffer = [UInt8](repeating: 0, count: 256)
                let count = read(terminal.fd, &buffer, buffer.count)
                // One that has hung up says so for ever.
                if count <= 0, Int32(terminal.revents) & (POLLHUP | POLLERR | POLLNVAL) != 0 {
                    terminals[place].fd = -1
                }
                guard count > 0 else { continue }
                let typed = String(decoding: buffer[..<count], as: UTF8.self).filter { !$0.isWhitespace }
                let before = chosen.removeValue(forKey: place)
                var answer = ""
                do {
                    if typed.isEmpty {
                        answer = list()
                    } else {
                        let disk = try installation.named(typed)
                        if let before, before.device.name == disk.device.name,
                            before.device.sequence == disk.device.sequence
                        {
                            _ = run(installation, disk)
                            answer = list()
                        } else {
                            chosen[place] = disk
                            answer = "all that is on \(disk.device.summary) is lost. Type \(typed) once more to go on"
                        }
                    }
                } catch { answer = "\(error)" }
                let bytes = Array("\r\nvcpe: \(answer)\r\n".utf8)
                _ = write(terminal.fd, bytes, bytes.count)
            }
        }
        return 1
    }
}
