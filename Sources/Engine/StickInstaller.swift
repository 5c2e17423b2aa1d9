import CSystem
import Documents
import Files
import Glibc
import Processes

/// What the engine has done on a box that runs from a stick: by a process of its own, since it takes minutes.
struct StickInstaller {
    private static let program = "/usr/lib/vcpe/vcpe-engine"
    private let isStick: Bool
    private var running: RunningProcess?
    /// The document's wish that was followed last; each is followed once.
    private var wish: String?
    private var isOffered = false

    init(places: Places) { isStick = StickInstallation.isStick(places) }

    /// Begins what the document wants; without anybody who could log in and ask, disks are offered on the consoles.
    mutating func follow(_ site: Node) {
        guard isStick else { return }
        if let running, running.poll() != nil { self.running = nil }
        if let wanted = Self.value("system.install-to", in: site) {
            guard case .scalar(let scalar) = wanted.value, scalar.text != wish else { return }
            wish = scalar.text
            do { try start(scalar.text) } catch { Log.say("\(error)") }
        } else if running == nil, !isOffered, Self.value("system.users", in: site) == nil, !Self.isDebug {
            isOffered = true
            running = try? Command(Self.program, ["offer"]).start(output: File("/dev/null", O_WRONLY))
        }
    }

    private static func value(_ path: String, in site: Node) -> Node? {
        (try? DocumentPath(path)).flatMap { site.value(at: $0) }
    }

    /// There is a shell on the console, which reads what is typed.
    private static var isDebug: Bool {
        let line = (try? File("/proc/cmdline").read(4096, at: 0)) ?? []
        return String(decoding: line, as: UTF8.self).split(whereSeparator: \.isWhitespace).contains("vcpe.debug")
    }

    mutating func start(_ wish: String) throws {
        guard isStick else { _ = try StickInstallation(); return }
        if let running, running.poll() == nil { running.kill() }
        running = try Command(Self.program, ["install", wish]).start(output: File("/dev/null", O_WRONLY))
    }
}

/// What such a process does, and says on all consoles.
public enum StickProcess {
    private static let consoles = Consoles(folder: "/dev")

    /// Installs the box onto the disk that is meant, and restarts it once the stick is gone.
    ///
    /// - Parameter wish: as ``StickInstallation/choose(_:)`` has it.
    /// - Returns: the process's exit code.
    public static func install(_ wish: String) -> Int32 {
        do {
            let installation = try StickInstallation()
            let disk = try installation.choose(wish)
            // The program lies on the stick: it must go on when that is pulled.
            csystem_stay_in_memory()
            if disk.isInstalled {
                consoles.say(
                    "\(disk.device.summary): this release is on it already. Pull the stick out: the box starts from its disk then"
                )
            } else {
                consoles.say("the box is installed onto \(disk.device.summary); all that is on it is lost")
                try installation.install(onto: disk.device) { consoles.say($0) }
                consoles.say(
                    "\(disk.device.path) is ready: written, read back and compared. Pull the stick out: the box starts from its disk then"
                )
            }
            installation.restartWithoutStick()
            return 0
        } catch {
            consoles.say("the box is not installed onto a disk: \(error)")
            return 1
        }
    }

    /// Offers the disks on every console, and takes the answer of whichever comes first.
    public static func offer() -> Int32 {
        guard let installation = try? StickInstallation() else { return 1 }
        var terminals = consoles.names.compactMap { name -> pollfd? in
            let descriptor = open("/dev/\(name)", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)
            return descriptor < 0 ? nil : pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        }
        guard !terminals.isEmpty else { return 1 }
        var chosen = ""
        func show() {
            let disks = installation.candidates
            let list = disks.map { "\r\n  \($0.text)" }.joined()
            consoles.say(
                disks.isEmpty
                    ? "this box runs from a stick, and has no disk to install itself onto"
                    : "this box runs from a stick: nothing is kept. Onto a disk it installs itself when you type the disk's name, such as "
                        + "\(disks[0].device.name), and Enter:\(list)")
        }
        show()
        while true {
            guard poll(&terminals, nfds_t(terminals.count), -1) > 0 else { continue }
            for (place, terminal) in terminals.enumerated() where terminal.revents != 0 {
                var buffer = [UInt8](repeating: 0, count: 256)
                let count = read(terminal.fd, &buffer, buffer.count)
                // A terminal that is gone stays so.
                if count <= 0, errno != EAGAIN { terminals[place].fd = -1 }
                guard count > 0 else { continue }
                let typed = String(decoding: buffer[..<count], as: UTF8.self).filter { !$0.isWhitespace }
                do {
                    guard !typed.isEmpty else {
                        chosen = ""
                        show()
                        continue
                    }
                    let disk = try installation.choose(typed)
                    if chosen == typed { return install(typed) }
                    chosen = typed
                    consoles.say("all that is on \(disk.device.summary) is lost. Type \(typed) once more to go on")
                } catch {
                    chosen = ""
                    consoles.say("\(error)")
                }
            }
        }
    }
}
