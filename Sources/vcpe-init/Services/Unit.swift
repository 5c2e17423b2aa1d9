import CSystem
import Glibc

/// One service as its unit file has it: a line a word, `word value`. `docs/init.md` has them all.
struct Unit {
    enum Restart: String {
        case always, never
        case onFailure = "on-failure"
    }

    /// The event that makes the service ready.
    enum Readiness: Equatable {
        /// The program was started.
        case started
        /// The program sent `READY=1` (sd_notify(3)).
        case notify
        /// A file or a socket exists.
        case file(String)
        /// The started process exited with 0 and left a daemon (systemd.service(5),
        /// `Type=forking`), whose pid is in the file, where one is given.
        case forked(pidFile: String?)
        /// The process exited with 0 (`Type=oneshot`).
        case exited
    }

    /// A command that runs to its end before the service's own, or when that is ready.
    struct Preparation: Equatable {
        var command: [String]
        /// The service starts whatever the command's exit code is.
        var mayFail = false
        /// The command runs as root with all capabilities, and without the unit's restrictions.
        var isPrivileged = false
    }

    /// What must be true of a path before a start; otherwise the service does not run, and that is
    /// no failure.
    struct Condition: Equatable {
        enum Kind: String {
            case exists, directory
            case notEmpty = "not-empty"
            case filledDirectory = "filled-directory"
        }

        var kind: Kind
        var path: String
        var isNegated: Bool
    }

    let name: String
    /// As it stands in the file: a unit whose text is another is started anew.
    let text: String
    var command: [String] = []
    /// Run one after the other before `command`.
    var preparations: [Preparation] = []
    /// Run one after the other when `command` is ready; the service is ready after the last one.
    var completions: [Preparation] = []
    var conditions: [Condition] = []
    /// nil for the root.
    var workingDirectory: String?
    var umask: UInt32 = 0o022
    /// What asks the service to end.
    var stopSignal = SIGTERM
    /// All processes of the service get the signal and have until the time-out, not the main
    /// process alone.
    var stopsAll = false
    var user: UInt32 = 0
    var group: UInt32 = 0
    var groups: [UInt32] = []
    var restart = Restart.always
    var environment: [String] = []
    var directories: [String] = []
    /// A bit each; nil keeps all.
    var capabilities: UInt64?
    var hasNoNewPrivileges = false
    var readOnlyPaths: [String] = []
    var hasPrivateTmp = false
    /// RLIMIT_* and its value.
    var limits: [(resource: Int32, value: UInt64)] = []
    /// Bytes that it and all it starts may use.
    var memory: UInt64?
    /// Processes that it and all it starts may be.
    var processes: UInt64?
    /// Services that must be ready before it starts.
    var after: [String] = []
    var readiness = Readiness.started
    /// Milliseconds within which it must be ready.
    var readyTimeout = 90_000
    /// Milliseconds that it has to end by itself.
    var stopTimeout = 10_000
    /// Milliseconds between its signs of life, at most; nil when none are asked for.
    var watchdog: Int?
    /// A start is good only when it is ready, and it is tried again for ever.
    var isEssential = false
    var oomScoreAdjustment: Int32 = 0

    /// Bytes of a unit file.
    private static let limit = 1 << 16

    /// Reads a unit file; a line that isn't understood makes the unit unusable and is named.
    init(name: String, text: String) throws(Failure) {
        self.name = name
        self.text = text
        guard Self.isName(name) else {
            throw Failure("unit \(name.prefix(60)): letters, digits, - . _ are a name, 64 at most")
        }
        guard text.utf8.count < Self.limit else { throw Failure("unit \(name): it has more than \(Self.limit) bytes") }
        for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            if line.isEmpty || line.hasPrefix("#") { continue }
            let words = line.split(separator: " ", maxSplits: 1)
            guard let word = words.first else { continue }
            let value = words.count == 2 ? String(words[1]) : ""
            do {
                try read(String(word), value)
            } catch {
                throw Failure("unit \(name), line \(number + 1): \(error): \(line.prefix(80))")
            }
        }
        guard command.first?.hasPrefix("/") == true else { throw Failure("unit \(name) has no command") }
    }

    private static func isName(_ name: String) -> Bool {
        (1...64).contains(name.utf8.count) && name.utf8.first != UInt8(ascii: ".")
            && name.utf8.allSatisfy {
                (0x61...0x7A).contains($0) || (0x41...0x5A).contains($0) || (0x30...0x39).contains($0)
                    || [0x2D, 0x2E, 0x5F].contains($0)
            }
    }

    private mutating func read(_ word: String, _ value: String) throws(Failure) {
        func number<Number: FixedWidthInteger>(_ range: ClosedRange<Number>) throws(Failure) -> Number {
            guard let number = Number(value), range.contains(number) else {
                throw Failure("not a number from \(range.lowerBound) to \(range.upperBound)")
            }
            return number
        }
        func milliseconds() throws(Failure) -> Int { try number(1...86_400) * 1000 }
        func path() throws(Failure) -> String {
            guard value.hasPrefix("/"), !value.split(separator: "/").contains(where: { $0 == ".." }) else {
                throw Failure("not an absolute path")
            }
            return value
        }
        switch word {
        case "command": command = Self.words(value)
        case "before": preparations.append(try Self.preparation(value))
        case "after-start": completions.append(try Self.preparation(value))
        case "condition": conditions.append(try Self.condition(value))
        case "working-directory": workingDirectory = try path()
        case "umask":
            guard let mask = UInt32(value, radix: 8), mask <= 0o777 else {
                throw Failure("not an octal number from 0 to 777")
            }
            umask = mask
        case "stop-signal":
            guard let signal = StopSignal.number(value) else {
                throw Failure("not one of \(StopSignal.names.joined(separator: ", "))")
            }
            stopSignal = signal
        case "stop-all": stopsAll = true
        case "user": user = try number(0...UInt32.max - 1)
        case "group": group = try number(0...UInt32.max - 1)
        case "groups":
            groups = try value.split(separator: " ").prefix(32).map { (text: Substring) throws(Failure) -> UInt32 in
                guard let group = UInt32(text) else { throw Failure("not numbers") }
                return group
            }
        case "restart":
            guard let restart = Restart(rawValue: value) else { throw Failure("not always, on-failure or never") }
            self.restart = restart
        case "environment":
            guard let equals = value.firstIndex(of: "="), equals > value.startIndex else {
                throw Failure("not KEY=value")
            }
            environment.append(value)
        case "directory": directories.append(try path())
        case "capabilities":
            var mask: UInt64 = 0
            for name in value.split(separator: " ") {
                let bit = csystem_capability(String(name))
                guard bit >= 0 else { throw Failure("no capability \(name)") }
                mask |= 1 << UInt64(bit)
            }
            capabilities = mask
        case "no-new-privileges": hasNoNewPrivileges = true
        case "read-only": readOnlyPaths.append(try path())
        case "private-tmp": hasPrivateTmp = true
        case "limit":
            let parts = value.split(separator: " ")
            guard parts.count == 2, let resource = ResourceLimit.number(String(parts[0])), let limit = UInt64(parts[1])
            else { throw Failure("not NAME NUMBER; names are \(ResourceLimit.names.joined(separator: ", "))") }
            limits.append((resource, limit))
        case "memory": memory = try number(1 << 20...UInt64(1) << 50)
        case "processes": processes = try number(1...UInt64(1) << 22)
        case "after": after += value.split(separator: " ").map(String.init)
        case "ready":
            if value == "started" {
                readiness = .started
            } else if value == "notify" {
                readiness = .notify
            } else if value.hasPrefix("file /") || value.hasPrefix("socket /") {
                readiness = .file(String(value.drop { $0 != "/" }))
            } else if value == "forked" {
                readiness = .forked(pidFile: nil)
            } else if value.hasPrefix("forked /") {
                readiness = .forked(pidFile: String(value.drop { $0 != "/" }))
            } else if value == "exited" {
                readiness = .exited
            } else {
                throw Failure("not started, notify, file PATH, socket PATH, forked, forked PIDFILE or exited")
            }
        case "ready-timeout": readyTimeout = try milliseconds()
        case "stop-timeout": stopTimeout = try milliseconds()
        case "watchdog": watchdog = try milliseconds()
        case "essential": isEssential = true
        case "oom-score-adjust": oomScoreAdjustment = try number(-999...1000)
        // Says that something the service reads has changed; its being here is all there is to it.
        case "stamp": break
        default: throw Failure("unknown word")
        }
    }

    /// `-` before the program: its exit code doesn't matter; `+`: it runs as root.
    private static func preparation(_ value: String) throws(Failure) -> Preparation {
        var preparation = Preparation(command: words(value))
        while let flag = preparation.command.first?.first, flag == "-" || flag == "+" {
            if flag == "-" { preparation.mayFail = true } else { preparation.isPrivileged = true }
            preparation.command[0].removeFirst()
        }
        guard preparation.command.first?.hasPrefix("/") == true else {
            throw Failure("not -, + and an absolute path with its arguments")
        }
        return preparation
    }

    private static func condition(_ value: String) throws(Failure) -> Condition {
        let words = value.split(separator: " ", maxSplits: 1)
        let isNegated = words.first?.hasPrefix("!") == true
        guard words.count == 2, words[1].hasPrefix("/"),
            let kind = Condition.Kind(rawValue: String(isNegated ? words[0].dropFirst() : words[0]))
        else {
            throw Failure("not exists, directory, not-empty or filled-directory, maybe after !, and an absolute path")
        }
        return Condition(kind: kind, path: String(words[1]), isNegated: isNegated)
    }

    /// Words end at blanks; a backslash takes the next character as it is, `\e` is an empty word.
    private static func words(_ text: String) -> [String] {
        var words: [String] = []
        var word: String?
        var escaped = false
        for character in text {
            if escaped {
                word = (word ?? "") + (character == "e" ? "" : String(character))
                escaped = false
            } else if character == "\\" {
                escaped = true
            } else if character == " " {
                if let done = word { words.append(done) }
                word = nil
            } else {
                word = (word ?? "") + String(character)
            }
        }
        return words + (word.map { [$0] } ?? [])
    }

    /// The most units that are taken: what lies in a folder must not fill PID 1's memory.
    private static let most = 512

    /// The units of folders, the names of those that can't be used, and what is wrong with them. A
    /// unit of an earlier folder is never replaced by one of a later.
    ///
    /// - Throws: when a folder that is there can't be read, so that nobody knows what is wanted.
    static func read(
        folders: [String]
    ) throws(Failure) -> (units: [Unit], broken: [String], problems: [Failure]) {
        var units: [Unit] = []
        var broken: [String] = []
        var problems: [Failure] = []
        for folder in folders {
            let names: [String]
            do {
                names = try Text.names(in: folder)
            } catch {
                if error.code == ENOENT { continue }
                throw error
            }
            for name in names where !name.hasPrefix(".") {
                if units.contains(where: { $0.name == name }) {
                    problems.append(Failure("unit \(name) of \(folder): the image has one of that name"))
                    continue
                }
                guard units.count < most else {
                    problems.append(Failure("more than \(most) units: \(name) is left out"))
                    continue
                }
                do {
                    units.append(try Unit(name: name, text: Text.read("\(folder)/\(name)")))
                } catch {
                    problems.append(error)
                    broken.append(name)
                }
            }
        }
        return (units, broken, problems)
    }
}

/// Signals that ask a service to end, by name.
enum StopSignal {
    private static let numbers: [(name: String, number: Int32)] = [
        ("TERM", SIGTERM), ("INT", SIGINT), ("QUIT", SIGQUIT), ("HUP", SIGHUP), ("USR1", SIGUSR1), ("USR2", SIGUSR2),
        ("WINCH", SIGWINCH), ("KILL", SIGKILL),
    ]

    static var names: [String] { numbers.map(\.name) }

    static func number(_ name: String) -> Int32? { numbers.first { $0.name == name }?.number }
}

/// Limits of setrlimit(2) by name.
enum ResourceLimit {
    private static let numbers: [(name: String, number: Int32)] = [
        ("cpu", 0), ("fsize", 1), ("data", 2), ("stack", 3), ("core", 4), ("nproc", 6), ("nofile", 7), ("memlock", 8),
        ("as", 9),
    ]

    static var names: [String] { numbers.map(\.name) }

    static func number(_ name: String) -> Int32? { numbers.first { $0.name == name }?.number }
}

extension Unit.Condition: CustomStringConvertible {
    /// Whether the path is as the unit says, now. Links are followed.
    var isMet: Bool {
        var status = stat()
        let exists = stat(path, &status) == 0
        let isDirectory = exists && status.st_mode & S_IFMT == S_IFDIR
        let holds =
            switch kind {
            case .exists: exists
            case .directory: isDirectory
            case .notEmpty: exists && status.st_mode & S_IFMT == S_IFREG && status.st_size > 0
            case .filledDirectory: isDirectory && Text.hasEntries(path)
            }
        return holds != isNegated
    }

    var description: String { "\(isNegated ? "!" : "")\(kind.rawValue) \(path)" }
}
