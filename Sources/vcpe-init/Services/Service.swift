import CSystem
import Glibc

/// A service that PID 1 keeps running.
struct Service {
    let unit: Unit
    private(set) var pid: pid_t = 0
    /// When it is started next, in milliseconds since the kernel's start; nil when it isn't waiting for that.
    private(set) var nextStart: Int?
    private(set) var restarts = 0
    private var startedAt = 0
    private var delay = 0
    var isStopping = false

    private static let firstDelay = 200
    private static let longestDelay = 60_000
    /// A service that ran this long is taken as sound again: its next fall is its first.
    private static let soundAfter = 30_000
    private static let logs = "/run/log"
    /// A log that grew beyond this is begun anew at the next start.
    private static let logLimit = 1 << 20

    init(_ unit: Unit) {
        self.unit = unit
        nextStart = 0
    }

    private var cgroup: String { "/sys/fs/cgroup/services/\(unit.name)" }

    /// Starts it; one that can't be started waits like one that ended.
    mutating func start() {
        nextStart = nil
        startedAt = Uptime.milliseconds
        for folder in unit.directories {
            do {
                try Self.makeOwned(folder, user: unit.user, group: unit.group)
            } catch {
                Console.say("service \(unit.name): \(error)")
            }
        }
        Text.makeFolder(cgroup)
        let group = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        let log = openLog()
        defer {
            if group >= 0 { close(group) }
            if log >= 0 { close(log) }
        }
        do {
            pid = try Child.start(
                unit.command[0], Array(unit.command.dropFirst()), environment: unit.environment, cgroup: group,
                output: log, user: unit.user, group: unit.group, newSession: true)
        } catch {
            Console.say("service \(unit.name): \(error)")
            Events.send("service-failed", [("name", unit.name), ("reason", error.description)])
            plan(failed: true)
        }
    }

    /// Makes a folder and those above it, the last one owned by the service. Links are not followed: one that the
    /// service itself put there would hand it what the link leads to.
    private static func makeOwned(_ path: String, user: UInt32, group: UInt32) throws(Failure) {
        var folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        for name in path.split(separator: "/") {
            let name = String(name)
            mkdirat(folder, name, 0o755)
            let next = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            let code = errno
            close(folder)
            guard next >= 0 else { throw Failure("open", path, code: code) }
            folder = next
        }
        defer { close(folder) }
        guard fchown(folder, user, group) == 0 else { throw Failure("fchown", path) }
    }

    /// Keeps the log small: what is there becomes the old log, and the service goes on in an empty one.
    func limitLog() {
        let path = "\(Self.logs)/\(unit.name)"
        var status = stat()
        guard stat(path, &status) == 0, status.st_size > Self.logLimit else { return }
        let file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
        guard file >= 0 else { return }
        defer { close(file) }
        let start = max(0, Int(status.st_size) - Self.logLimit)
        let rest = Bytes.read(file, Self.logLimit, at: start)
        let old = open(path + ".1", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o640)
        if old >= 0 {
            _ = Bytes.write(old, rest, at: 0)
            close(old)
        }
        ftruncate(file, 0)
    }

    private func openLog() -> Int32 {
        Text.makeFolder(Self.logs)
        let path = "\(Self.logs)/\(unit.name)"
        return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
    }

    /// Takes note that its process has ended.
    mutating func ended(_ status: Int32) {
        pid = 0
        let code = status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + (status & 0x7F)
        // What it left behind in its cgroup ends with it.
        Text.write("1", to: "\(cgroup)/cgroup.kill")
        if isStopping { return }
        Events.send("service-ended", [("name", unit.name), ("code", "\(code)")])
        if code != 0 { Console.say("service \(unit.name) ended with \(code)") }
        plan(failed: code != 0)
    }

    /// Decides when it is started again: after twice the last delay, up to a minute, and up to a quarter more, so that
    /// services that fell together don't rise together.
    private mutating func plan(failed: Bool) {
        guard unit.restart == .always || unit.restart == .onFailure && failed else { return }
        if Uptime.milliseconds - startedAt > Self.soundAfter { delay = 0 }
        delay = delay == 0 ? Self.firstDelay : min(delay * 2, Self.longestDelay)
        var random: UInt32 = 0
        csystem_random(&random, 4)
        nextStart = Uptime.milliseconds + delay + Int(random % UInt32(delay / 4 + 1))
        restarts += 1
    }

    /// Asks it to end, or ends it and all that it started.
    func stop(force: Bool) {
        guard pid > 0 else { return }
        if force {
            Text.write("1", to: "\(cgroup)/cgroup.kill")
            kill(pid, SIGKILL)
        } else {
            kill(pid, SIGTERM)
        }
    }
}
