/// A service as its unit file describes it (`docs/init.md`): a value that PID 1, the engine and
/// plugins share.
///
/// ``init(name:text:)`` reads a unit file, ``text()`` writes one; for every unit that ``text()``
/// accepts, reading the text gives the same unit.
public struct Unit: Sendable, Hashable {
    /// 1 to 64 letters, digits, `-`, `.` and `_`; the first is no `.`.
    public var name: String
    /// The program, an absolute path, and its arguments.
    public var command: [String]
    /// Commands that run one after the other before ``command``.
    public var before: [Command] = []
    /// Commands that run one after the other when ``command`` is ready; the service is ready after
    /// the last one.
    public var afterStart: [Command] = []
    /// Conditions that are checked before each start; a service that does not meet one does not run.
    public var conditions: [Condition] = []
    /// Numeric user and group, and supplementary groups, at most 32.
    public var user: UInt32 = 0
    public var group: UInt32 = 0
    public var groups: [UInt32] = []
    /// nil for `/`.
    public var workingDirectory: String?
    public var umask: UInt32 = 0o022
    /// The only capabilities that it keeps; nil keeps all.
    public var capabilities: Capabilities?
    public var hasNoNewPrivileges = false
    public var hasPrivateTmp = false
    /// Its own view of the box and a part of the kernel's calls; nil for all of both.
    public var profile: Profile?
    /// Paths that are read-only in the service's view of the tree.
    public var readOnly: [String] = []
    /// Folders that PID 1 makes before each start, each owned by ``user``.
    public var directories: [String] = []
    /// The network namespace `/run/netns/NAME`; nil for the box's own.
    public var network: String?
    public var environment: [String: String] = [:]
    /// Limits of setrlimit(2), soft and hard alike.
    public var limits: [Limit: UInt64] = [:]
    /// Bytes for the service and all that it starts (cgroup, `memory.max`): 1 MiB to 1 PiB.
    public var memory: Int?
    /// Processes and threads of the service (cgroup, `pids.max`).
    public var processes: Int?
    /// Share of the CPU under load (cgroup, `cpu.weight`): 1 to 10000; the kernel's default is 100.
    public var cpuWeight: Int?
    /// Share of the disks under load (cgroup, `io.weight`): 1 to 10000; the kernel's default is
    /// 100.
    public var ioWeight: Int?
    /// -999 to 1000 (proc_pid_oom_score_adj(5)).
    public var oomScoreAdjustment = 0
    /// Services that must be ready before this one starts.
    public var after: [String] = []
    public var readiness = Readiness.started
    /// Seconds within which it must be ready.
    public var readyTimeout = 90
    /// Seconds between two signs of life at most; nil when PID 1 expects none.
    public var watchdog: Int?
    public var restart = Restart.always
    public var reload: Reload?
    public var stopSignal = Signal.term
    /// All processes get ``stopSignal`` and have until ``stopTimeout``, not the main process alone.
    public var stopsAll = false
    /// Seconds from ``stopSignal`` until PID 1 kills the service's cgroup.
    public var stopTimeout = 10
    /// What it may ask PID 1 and the engine for; nothing by default.
    public var access: [Access] = []
    /// A boot is good only when the service is ready.
    public var isEssential = false
    /// It is never marked failed, and is tried each minute.
    public var isNeverFailed = false
    /// Text that changes when something that the program reads has changed.
    public var stamps: [String] = []

    public init(name: String, command: [String]) {
        self.name = name
        self.command = command
    }

    /// The program runs to its end, and again only after a failure: `ready exited` and
    /// `restart on-failure`.
    public var isOnce: Bool {
        get { readiness == .exited && restart == .onFailure }
        set {
            guard newValue != isOnce else { return }
            (readiness, restart) = newValue ? (.exited, .onFailure) : (.started, .always)
        }
    }

    /// A unit's name, a service's in `after`, or a network namespace's.
    public static func isName(_ name: String) -> Bool {
        (1...64).contains(name.utf8.count) && name.utf8.first != UInt8(ascii: ".")
            && name.utf8.allSatisfy {
                (0x61...0x7A).contains($0) || (0x41...0x5A).contains($0) || (0x30...0x39).contains($0)
                    || [0x2D, 0x2E, 0x5F].contains($0)
            }
    }
}

extension Unit {
    /// A command beside the service's own.
    public struct Command: Sendable, Hashable {
        /// The program, an absolute path, and its arguments; `${MAINPID}` in them stands for the
        /// pid of the service's main process.
        public var words: [String]
        /// The exit code does not matter.
        public var mayFail: Bool
        /// It runs as root and without the unit's restrictions, in the box's own network.
        public var isPrivileged: Bool

        public init(_ words: [String], mayFail: Bool = false, isPrivileged: Bool = false) {
            self.words = words
            self.mayFail = mayFail
            self.isPrivileged = isPrivileged
        }
    }

    /// A right to ask other processes of the box, which a service has by its cgroup. User 0 has
    /// none of them by itself.
    public enum Access: String, Sendable, CaseIterable {
        /// All requests of PID 1's control socket.
        case `init`
        /// The engine's requests, as an administrator.
        case engine
        /// Users that it logs in may ask the engine and the updater, each by their own role.
        case login
        /// The requests `poweroff` and `reboot` of PID 1.
        case power
    }

    /// What must be true of a path; links are followed.
    public struct Condition: Sendable, Hashable {
        public enum Kind: String, Sendable, CaseIterable {
            case exists, directory
            /// A regular file with content.
            case notEmpty = "not-empty"
            case filledDirectory = "filled-directory"
        }

        public var kind: Kind
        public var path: String
        public var isNegated: Bool

        public init(_ kind: Kind, _ path: String, isNegated: Bool = false) {
            self.kind = kind
            self.path = path
            self.isNegated = isNegated
        }
    }

    public enum Restart: String, Sendable, CaseIterable {
        case always, never
        case onFailure = "on-failure"
    }

    /// The event that makes the service ready.
    public enum Readiness: Sendable, Hashable {
        /// The program was started.
        case started
        /// The program sent `READY=1` (sd_notify(3)).
        case notify
        /// A file or a socket exists.
        case file(String)
        /// The program exited with 0 and left a daemon (systemd.service(5), `Type=forking`), whose
        /// pid is in the file, where one is given.
        case forked(pidFile: String?)
        /// The program exited with 0 (`Type=oneshot`).
        case exited
    }

    /// What makes the service read its configuration again.
    public enum Reload: Sendable, Hashable {
        /// To the main process.
        case signal(Signal)
        case command(Command)
    }

    /// Signals by the names that a unit file has for them.
    public enum Signal: String, Sendable, CaseIterable {
        case term = "TERM"
        case int = "INT"
        case quit = "QUIT"
        case hup = "HUP"
        case usr1 = "USR1"
        case usr2 = "USR2"
        case winch = "WINCH"
        case kill = "KILL"
    }

    /// Limits of setrlimit(2).
    public enum Limit: String, Sendable, CaseIterable {
        case cpu, fsize, data, stack, core, nproc, nofile, memlock
        case addressSpace = "as"
    }
}

/// Why a unit can't be read or written: where, what was found, what is allowed.
public struct InvalidUnit: Error, Hashable, CustomStringConvertible {
    public var description: String

    init(_ description: String) { self.description = description }
}
