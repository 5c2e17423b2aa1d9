import Documents
import Files
import Units

/// What PID 1's unit gets from a service unit of systemd.
///
/// Settings are those of systemd.service(5), systemd.exec(5), systemd.kill(5) and
/// systemd.resource-control(5).
struct ImportedService {
    /// A setting that can't be taken over, so that the service can't run.
    struct Unusable: Error {
        var message: String
        var hint: String
    }

    private let unit: SystemdUnit
    private let tree: Tree
    private var variables: [String: String]
    /// Without its name and its user.
    private(set) var converted = Unit(name: "", command: [])
    /// The command starts as root and gives its privileges up itself (`!` and `+` before it).
    private(set) var isPrivileged = false
    private(set) var remarks: [String] = []

    /// - Parameters:
    ///   - tree: the image's, for environment files and programs without a path.
    ///   - account: of the user that the service runs as; nil for root.
    ///   - environment: the definition's, which replaces the unit's variables of the same name.
    ///   - services: names of the image's services by the unit that they come from.
    ///   - needsEngine: the image has an engine that configures its network.
    init(
        _ unit: SystemdUnit, tree: Tree, user: String, account: Users.User?, environment: [String: String],
        services: [String: String], needsEngine: Bool
    ) throws {
        self.unit = unit
        self.tree = tree
        variables = [:]
        if user != "root", let account {
            variables = ["HOME": account.home, "USER": user, "LOGNAME": user, "SHELL": account.shell]
        }
        try readEnvironment()
        variables.merge(environment) { $1 }
        try addCommands()
        addOrder(services, needsEngine)
        addConditions()
        addReadiness()
        addProcess(isRoot: user == "root" || isPrivileged)
        addLimits()
        converted.environment = variables
        converted.restart = restart
        addRemarks()
    }

    /// PID 1's word for `Restart=`. A daemon without it is restarted, too: a box has no operator
    /// beside it.
    private var restart: Unit.Restart {
        switch unit.value("Restart") {
        case "always", "on-success": .always
        case "no": .never
        case nil: unit.type == "oneshot" || unit.isTrue("RemainAfterExit") ? .never : .always
        default: .onFailure
        }
    }

    // MARK: - Environment

    private mutating func readEnvironment() throws {
        for directory in unit.directories {
            let known = variables[directory.variable].map { $0 + ":" } ?? ""
            variables[directory.variable] = known + "/\(directory.path)"
        }
        for word in unit.words("Environment") {
            guard let equals = word.firstIndex(of: "="),
                let value = unit.expanded(String(word[word.index(after: equals)...]))
            else { continue }
            variables[String(word[..<equals])] = value
        }
        for file in unit.values("EnvironmentFile") {
            let isOptional = file.hasPrefix("-")
            guard let path = unit.expanded(String(file.drop { $0 == "-" })), path.hasPrefix("/") else { continue }
            guard let found = tree.resolving(PackageTree.canonical(String(path.dropFirst()))),
                let content = tree.file(found)
            else {
                if isOptional {
                    if path.hasPrefix("/run/") { remarks.append("\(path) is not read: the image has no such file") }
                    continue
                }
                throw Unusable(
                    message: "its EnvironmentFile \(path) is not in the image", hint: "add it under files:")
            }
            for (name, value) in SystemdSyntax.environment(String(decoding: try content.read(), as: UTF8.self)) {
                variables[name] = value
            }
        }
        variables = variables.filter { !$0.value.contains("\n") }
    }

    // MARK: - Commands

    private mutating func addCommands() throws {
        var main = try unit.values("ExecStart").flatMap(commands)
        guard let last = main.popLast() else {
            throw Unusable(message: "it has no ExecStart=", hint: "write the program as command:")
        }
        for command in try unit.values("ExecStartPre").flatMap(commands) + main {
            if try isThere(command) { converted.before.append(command) }
        }
        for command in try unit.values("ExecStartPost").flatMap(commands) where try isThere(command) {
            converted.afterStart.append(command)
        }
        converted.command = last.words
        isPrivileged = last.isPrivileged
        if last.mayFail { remarks.append("a failure of \(last.words[0]) is not ignored") }
    }

    /// Whether a further command's program is in the image; one whose failure is ignored may be
    /// missing.
    private mutating func isThere(_ command: Unit.Command) throws -> Bool {
        let program = command.words[0]
        if tree.resolving(PackageTree.canonical(String(program.dropFirst()))) != nil { return true }
        guard command.mayFail else {
            throw Unusable(
                message: "there is no program \(program) in the image, which it runs before or after its start",
                hint: "add the package that brings it to packages:")
        }
        remarks.append("\(program) is not in the image: its command is left out")
        return false
    }

    /// The commands of a line, which `;` separates.
    private func commands(_ line: String) throws -> [Unit.Command] {
        let words = SystemdSyntax.words(line)
        return try words.split(separator: SystemdSyntax.Word(text: ";")).map { try command($0.map(\.text)) }
    }

    private func command(_ words: [String]) throws -> Unit.Command {
        var words = words
        var command = Unit.Command([])
        var isExpanded = true
        var hasOwnName = false
        var marks = 0
        while let flag = words.first?.first, "@-:+!|".contains(flag) {
            switch flag {
            case "-": command.mayFail = true
            case "+": command.isPrivileged = true
            case "!": marks += 1
            case ":": isExpanded = false
            case "@": hasOwnName = true
            default: break
            }
            words[0].removeFirst()
        }
        // `!!` is for systems without ambient capabilities.
        if marks == 1 { command.isPrivileged = true }
        // Its argv[0]: PID 1 gives the program's path.
        if hasOwnName, words.count > 1 { words.remove(at: 1) }
        command.words = try words.flatMap { word -> [String] in
            guard let text = unit.expanded(word) else {
                throw Unusable(
                    message: "the specifier in \"\(word)\" has a value on a running system only",
                    hint: "write the program as command:")
            }
            let expanded = isExpanded ? substituted(text) : [text]
            if expanded.contains(where: { $0.contains(where: \.isNewline) }) {
                throw Unusable(
                    message: "a command has a line break in \"\(word)\"", hint: "write a script, and run it by command:"
                )
            }
            return expanded
        }
        guard let program = command.words.first, !program.isEmpty else {
            throw Unusable(message: "it has an empty command", hint: "write the program as command:")
        }
        if !program.hasPrefix("/") {
            let folders = ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin"]
            let found = folders.lazy.map({ "\($0)/\(program)" }).first(where: { tree.resolving($0) != nil })
            guard let found = found ?? (command.mayFail ? "usr/bin/\(program)" : nil) else {
                throw Unusable(
                    message: "there is no program \(program) in the image",
                    hint: "add the package that brings it to packages:")
            }
            command.words[0] = "/" + found
        }
        return command
    }

    /// A word with its variables replaced: `$NAME` alone becomes as many words as its value has,
    /// `${NAME}` is replaced within the word, `$$` is a dollar sign.
    private func substituted(_ word: String) -> [String] {
        if word.hasPrefix("$"), !word.hasPrefix("${"), !word.hasPrefix("$$"),
            word.dropFirst().allSatisfy({ $0.isLetter || $0.isNumber || $0 == "_" }), word.count > 1
        {
            let name = String(word.dropFirst())
            // PID 1 knows it.
            if name == "MAINPID" { return ["${MAINPID}"] }
            return SystemdSyntax.words(variables[name] ?? "").map(\.text)
        }
        var result = ""
        var rest = word[...]
        while let dollar = rest.firstIndex(of: "$") {
            result += rest[..<dollar]
            rest = rest[rest.index(after: dollar)...]
            if rest.hasPrefix("$") {
                result += "$"
                rest = rest.dropFirst()
            } else if rest.hasPrefix("{"), let end = rest.firstIndex(of: "}") {
                let name = String(rest[rest.index(after: rest.startIndex)..<end])
                result += name == "MAINPID" ? "${MAINPID}" : variables[name] ?? ""
                rest = rest[rest.index(after: end)...]
            } else {
                result += "$"
            }
        }
        return [result + rest]
    }

    // MARK: - Order and conditions

    private mutating func addOrder(_ services: [String: String], _ needsEngine: Bool) {
        let units = unit.words("After", section: "Unit")
        var after = units.compactMap { services[$0] }
        // The engine is ready when the addresses of the configuration are there.
        let isNetwork = units.contains { ["network.target", "network-online.target"].contains($0) }
        if needsEngine, isNetwork { after.append("engine") }
        converted.after = Set(after).sorted()
    }

    private mutating func addConditions() {
        let kinds: [String: Unit.Condition.Kind] = [
            "PathExists": .exists, "PathIsDirectory": .directory, "FileNotEmpty": .notEmpty,
            "DirectoryNotEmpty": .filledDirectory,
        ]
        for key in unit.keys(section: "Unit") where key.hasPrefix("Condition") || key.hasPrefix("Assert") {
            let name = String(key.dropFirst(key.hasPrefix("Condition") ? 9 : 6))
            for value in unit.values(key, section: "Unit") {
                let isNegated = value.hasPrefix("!")
                if let kind = kinds[name], !value.hasPrefix("|"),
                    let path = unit.expanded(String(value.drop { $0 == "!" })), path.hasPrefix("/")
                {
                    converted.conditions.append(Unit.Condition(kind, path, isNegated: isNegated))
                } else if !["Virtualization", "Capability", "Security"].contains(name) {
                    remarks.append("\(key)=\(value) is not checked")
                }
            }
        }
    }

    // MARK: - Readiness and end

    private mutating func addReadiness() {
        switch unit.type {
        case "notify", "notify-reload": converted.readiness = .notify
        case "forking":
            let file = unit.value("PIDFile").flatMap(unit.expanded).map { $0.hasPrefix("/") ? $0 : "/run/" + $0 }
            converted.readiness = .forked(pidFile: file?.replacingPrefix("/var/run/", "/run/"))
        case "oneshot": converted.readiness = .exited
        case "dbus": remarks.append("Type=dbus: it counts as ready once it is started; an image has no message bus")
        default: break
        }
        // A day stands for no limit, which 0 is as well: PID 1 waits for nothing without an end.
        func seconds(_ keys: String...) -> Int? {
            guard let text = keys.compactMap({ unit.value($0) }).first else { return nil }
            if text == "infinity" { return 86_400 }
            guard let seconds = SystemdUnit.seconds(text) else {
                remarks.append("\(keys[0])=\(text) is not a time")
                return nil
            }
            return seconds == 0 ? 86_400 : min(seconds, 86_400)
        }
        if let seconds = seconds("TimeoutStartSec", "TimeoutSec") ?? (unit.type == "oneshot" ? 86_400 : nil) {
            converted.readyTimeout = seconds
        }
        // As DefaultTimeoutStopSec= of systemd-system.conf(5).
        converted.stopTimeout = seconds("TimeoutStopSec", "TimeoutSec") ?? 90
        converted.stopsAll = !["mixed", "process", "none"].contains(unit.value("KillMode") ?? "")
        if let text = unit.value("WatchdogSec"), let seconds = SystemdUnit.seconds(text), seconds > 0 {
            converted.watchdog = min(seconds, 86_400)
        }
        if let signal = unit.value("KillSignal") {
            let name = signal.hasPrefix("SIG") ? String(signal.dropFirst(3)) : signal
            if let known = Unit.Signal(rawValue: name) {
                converted.stopSignal = known
            } else {
                remarks.append("KillSignal=\(signal) is not known: it ends by SIGTERM")
            }
        }
    }

    // MARK: - The process

    private mutating func addProcess(isRoot: Bool) {
        if let mask = unit.value("UMask").flatMap({ UInt32($0, radix: 8) }), mask <= 0o777 {
            converted.umask = mask
        }
        if let directory = unit.value("WorkingDirectory") {
            let isOptional = directory.hasPrefix("-")
            let text = directory == "~" ? variables["HOME"] ?? "/root" : String(directory.drop { $0 == "-" })
            if let path = unit.expanded(text), path.hasPrefix("/"),
                !isOptional || tree.resolving(PackageTree.canonical(String(path.dropFirst()))) != nil
            {
                converted.workingDirectory = path
            }
        }
        if variables["PATH"] == nil {
            // systemd's, which has /usr/local.
            variables["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
        }
        converted.hasNoNewPrivileges = unit.isTrue("NoNewPrivileges")
        converted.hasPrivateTmp = unit.isTrue("PrivateTmp") || unit.value("PrivateTmp") == "disconnected"
        // A user other than root keeps what is ambient; root what is within the bounds.
        let key = isRoot ? "CapabilityBoundingSet" : "AmbientCapabilities"
        if !unit.values(key).isEmpty, isRoot || !isPrivileged {
            converted.capabilities = try? Capabilities(Array(capabilities(key)))
        }
    }

    /// Lists with `~` take away, others add; the first decides whether the set starts empty or
    /// full.
    private func capabilities(_ key: String) -> Set<String> {
        var set: Set<String>?
        for value in unit.values(key) {
            let names = Set(
                SystemdSyntax.words(value.drop { $0 == "~" }).map(\.text).map {
                    $0.lowercased().replacingPrefix("cap_", "")
                }
                .filter(Capabilities.names.contains))
            if value.hasPrefix("~") {
                set = (set ?? Set(FileCapabilities.names)).subtracting(names)
            } else {
                set = (set ?? []).union(names)
            }
        }
        return set ?? []
    }

    private mutating func addLimits() {
        for name in ["NOFILE", "NPROC", "CORE", "MEMLOCK", "STACK", "DATA", "AS", "FSIZE"] {
            // SOFT:HARD; PID 1 sets both to the higher one, which the program could do itself.
            guard let text = unit.value("Limit" + name)?.split(separator: ":").last,
                let value = SystemdUnit.number(String(text)), let limit = Unit.Limit(rawValue: name.lowercased())
            else { continue }
            // fs.nr_open: setrlimit(2) takes no more.
            converted.limits[limit] = limit == .nofile ? min(value, 1 << 20) : value
        }
        let bounds: [(String, WritableKeyPath<Unit, Int?>, ClosedRange<UInt64>)] = [
            ("MemoryMax", \.memory, 1 << 20...1 << 50), ("TasksMax", \.processes, 1...1 << 22),
        ]
        for (key, bound, range) in bounds {
            guard let text = unit.value(key), text != "infinity" else { continue }
            if let value = SystemdUnit.number(text), range.contains(value) {
                converted[keyPath: bound] = Int(value)
            } else {
                remarks.append("\(key)=\(text) is not applied")
            }
        }
        if let score = unit.value("OOMScoreAdjust").flatMap({ Int($0) }) {
            converted.oomScoreAdjustment = min(max(score, -999), 1000)
        }
    }

    // MARK: - What is not taken over

    /// Settings that are taken over.
    private static let handled: Set<String> = [
        "Type", "ExecStart", "ExecStartPre", "ExecStartPost", "PIDFile", "User", "Group", "SupplementaryGroups",
        "DynamicUser", "Environment", "EnvironmentFile", "RuntimeDirectory", "RuntimeDirectoryMode", "StateDirectory",
        "StateDirectoryMode", "CacheDirectory", "CacheDirectoryMode", "LogsDirectory", "LogsDirectoryMode",
        "WorkingDirectory", "UMask", "LimitNOFILE", "LimitNPROC", "LimitCORE", "LimitMEMLOCK", "LimitSTACK",
        "LimitDATA", "LimitAS", "LimitFSIZE", "MemoryMax", "TasksMax", "OOMScoreAdjust", "AmbientCapabilities",
        "NoNewPrivileges", "PrivateTmp", "TimeoutStartSec", "TimeoutStopSec", "TimeoutSec", "WatchdogSec", "KillSignal",
        "KillMode", "Restart", "RemainAfterExit",
    ]

    /// Settings that make no difference on a box: of systemd's journal and slices, and of its
    /// restarts, which PID 1 spaces itself.
    private static let harmless: Set<String> = [
        "RestartSec", "RestartSteps", "RestartMaxDelaySec", "StartLimitInterval", "StartLimitBurst", "NotifyAccess",
        "GuessMainPID", "SendSIGKILL", "Slice", "SyslogIdentifier", "SyslogFacility", "LogLevelMax", "StandardOutput",
        "StandardError", "BusName", "Delegate", "RuntimeDirectoryPreserve", "TimeoutAbortSec", "ExecReload",
        "IgnoreSIGPIPE", "FileDescriptorStoreMax", "OOMPolicy", "TimeoutStartFailureMode",
    ]

    /// Starts of the names of settings that only restrict a service.
    private static let hardening = [
        "Protect", "Private", "Restrict", "SystemCall", "Lock", "MemoryDeny", "ReadWrite", "ReadOnly", "Inaccessible",
        "NoExec", "ExecPaths", "Devic", "IPAddress", "RemoveIPC", "ProcSubset", "CapabilityBoundingSet", "SecureBits",
        "KeyringMode", "AppArmorProfile", "SocketBind", "UnsetEnvironment",
    ]

    private mutating func addRemarks() {
        let hasCapabilities = converted.capabilities != nil
        let keys = unit.keys(section: "Service").filter { key in
            !Self.handled.contains(key) && !Self.harmless.contains(key)
                && !(key == "CapabilityBoundingSet" && hasCapabilities)
        }
        func isHardening(_ key: String) -> Bool {
            // A restart's exceptions begin like restrictions.
            !key.hasPrefix("Restart") && Self.hardening.contains { key.hasPrefix($0) }
        }
        let missing = keys.filter { !isHardening($0) }
        if !missing.isEmpty { remarks.append("not taken over: \(missing.joined(separator: ", "))") }
        let hardening = keys.filter(isHardening)
        if !hardening.isEmpty { remarks.append("restrictions not applied: \(hardening.joined(separator: ", "))") }
        if unit.value("KillMode") == "process" {
            remarks.append("KillMode=process: the box ends what the service leaves behind")
        }
        if unit.hasSocket {
            remarks.append("nothing listens on its socket unit: the service has to open its sockets itself")
        }
    }
}

extension String {
    fileprivate func replacingPrefix(_ prefix: String, _ other: String) -> String {
        hasPrefix(prefix) ? other + dropFirst(prefix.count) : self
    }
}
