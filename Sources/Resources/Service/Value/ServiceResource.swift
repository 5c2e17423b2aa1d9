import Units

/// A program that PID 1 keeps running; `docs/init.md` describes each word.
public struct ServiceResource: ResourceType {
    public static let kind = "service"

    /// Everything but its user, whose number only the box knows. The name is the plugin's name, a
    /// hyphen, and a name of its own.
    public var unit: Unit
    /// The name of its user, whose group it has, too.
    public var user: String
    /// It is restarted when one of these files of the plan has changed.
    public var configurationFiles: [String]
    /// It reloads its configuration when one of these files of the plan has changed: by the unit's
    /// reload, or SIGHUP.
    public var reloadFiles: [String]

    /// Its share of the box, and when it goes if memory runs out.
    public enum Class: String, Sendable, CaseIterable {
        /// Logs users in: it goes after all others but the engine, and is never marked failed.
        case login
        case standard
        /// Nobody waits for it.
        case background

        var processes: Int { self == .login ? 256 : 64 }
        var cpuWeight: Int? { self == .login ? 200 : self == .background ? 20 : nil }
        var ioWeight: Int? { self == .background ? 20 : nil }
        var oomScoreAdjustment: Int { self == .login ? -500 : self == .background ? 400 : 200 }
    }

    public let serviceClass: Class

    /// Bytes of a service whose plan says nothing.
    static let usualMemory = 128 << 20

    public var name: String { unit.name }
    public var command: [String] { unit.command }

    /// - Parameters:
    ///   - capabilities: Linux capabilities that it keeps, such as `net_bind_service`.
    ///   - directories: made before it starts, owned by its user.
    ///   - memory: bytes that all its processes may use.
    ///   - profile: what it has of the box beyond a strict service's.
    ///   - access: what it may ask PID 1 and the engine for; its manifest allows it.
    public init(
        name: String, command: [String], user: String = "root", capabilities: [String] = [],
        readiness: Unit.Readiness = .started, directories: [String] = [], configurationFiles: [String] = [],
        reloadFiles: [String] = [], memory: Int? = nil, class serviceClass: Class = .standard,
        profile: Unit.Profile = Unit.Profile(), access: [Unit.Access] = []
    ) {
        unit = Self.base(name, command, serviceClass)
        unit.profile = profile
        self.serviceClass = serviceClass
        self.user = user
        guard let known = try? Capabilities(capabilities) else {
            fatalError("the service \(name) has an unknown capability: \(capabilities)")
        }
        unit.capabilities = known
        if !reloadFiles.isEmpty { unit.reload = .signal(.hup) }
        unit.readiness = readiness
        unit.directories = directories
        if let memory { unit.memory = memory }
        unit.access = access
        self.configurationFiles = configurationFiles
        self.reloadFiles = reloadFiles
    }

    /// What every service of a plugin has.
    private static func base(_ name: String, _ command: [String], _ serviceClass: Class) -> Unit {
        var unit = Unit(name: name, command: command)
        unit.hasNoNewPrivileges = true
        unit.profile = Unit.Profile()
        unit.memory = usualMemory
        (unit.processes, unit.cpuWeight, unit.ioWeight) =
            (serviceClass.processes, serviceClass.cpuWeight, serviceClass.ioWeight)
        unit.oomScoreAdjustment = serviceClass.oomScoreAdjustment
        unit.isNeverFailed = serviceClass == .login
        return unit
    }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        let command = try line.texts("command")
        guard command.first?.hasPrefix("/") == true else {
            throw line.invalid("a service needs a command that begins with an absolute path")
        }
        let known = Class.allCases.map(\.rawValue).joined(separator: ", ")
        let word = try line.text("class") ?? Class.standard.rawValue
        guard let serviceClass = Class(rawValue: word) else {
            throw line.invalid("there is no class \"\(word)\"; allowed are \(known)")
        }
        self.serviceClass = serviceClass
        unit = Self.base(try line.value("name") { Unit.isName($0) ? $0 : nil }, command, serviceClass)
        unit.profile = Unit.Profile(
            writable: try line.texts("writable"), visible: try line.texts("visible"),
            devices: try line.texts("devices"), systemCalls: try line.names("system-calls"),
            families: try line.names("families"), permissions: try line.names("allow"))
        user = try line.text("user") ?? "root"
        configurationFiles = try line.texts("configuration-files")
        reloadFiles = try line.texts("reload-files")
        unit.readiness = try line.optional("ready") { Unit.Readiness(plan: $0) } ?? .started
        unit.directories = try line.texts("directories")
        unit.after = try line.texts("after")
        unit.network = try line.text("network")
        if let memory = try line.number("memory", 1 << 20...1 << 50) { unit.memory = memory }
        if let processes = try line.number("processes", 1...1 << 20) { unit.processes = processes }
        if let weight = try line.number("cpu-weight", 1...10_000) { unit.cpuWeight = weight }
        if let seconds = try line.number("ready-timeout", 1...86_400) { unit.readyTimeout = seconds }
        if let files = try line.number("files", 16...1 << 20) { unit.limits[.nofile] = UInt64(files) }
        if try line.flag("once") {
            guard unit.readiness == .started else { throw line.invalid("\"once\" has no \"ready\"") }
            unit.isOnce = true
        }
        if !reloadFiles.isEmpty { unit.reload = .signal(.hup) }
        if let signal = try line.optional("reload-signal", { Unit.Signal(rawValue: $0) }) {
            unit.reload = .signal(signal)
        }
        let reload = try line.texts("reload-command")
        if !reload.isEmpty { unit.reload = .command(Unit.Command(reload)) }
        unit.access = try line.names("access")
        if let value = line["environment"], value.object == nil {
            throw line.invalid("\"environment\" is not an object")
        }
        for (name, value) in line["environment"]?.object ?? [:] {
            guard let text = value.text else { throw line.invalid("\"environment\" is texts by their names") }
            unit.environment[name] = text
        }
        let capabilities = try line.texts("capabilities")
        do {
            unit.capabilities = try Capabilities(capabilities)
            // The writer refuses what the reader would read as something else, such as a line break.
            _ = try unit.text()
        } catch {
            throw line.invalid("\(error)")
        }
    }

    public var identity: String { name }

    public var fields: [String: JSON] {
        var reloadSignal: JSON?
        var reloadCommand: JSON?
        switch unit.reload {
        case .signal(.hup) where !reloadFiles.isEmpty: break
        case .signal(let signal): reloadSignal = .text(signal.rawValue)
        case .command(let command): reloadCommand = .texts(command.words)
        case nil: break
        }
        return Self.fields([
            "name": .text(name), "command": .texts(command), "user": .text(user),
            "capabilities": .texts(unit.capabilities?.names ?? []),
            "ready": unit.isOnce ? nil : .text(unit.readiness.plan), "once": unit.isOnce ? .boolean(true) : nil,
            "directories": .texts(unit.directories), "configuration-files": .texts(configurationFiles),
            "reload-files": reloadFiles.isEmpty ? nil : .texts(reloadFiles), "reload-signal": reloadSignal,
            "reload-command": reloadCommand,
            "memory": unit.memory == Self.usualMemory ? nil : unit.memory.map { .integer($0) },
            "class": serviceClass == .standard ? nil : .text(serviceClass.rawValue),
            "after": unit.after.isEmpty ? nil : .texts(unit.after), "network": unit.network.map { .text($0) },
            "processes": unit.processes == serviceClass.processes ? nil : unit.processes.map { .integer($0) },
            "cpu-weight": unit.cpuWeight == serviceClass.cpuWeight ? nil : unit.cpuWeight.map { .integer($0) },
            "writable": Self.words(unit.profile?.writable), "visible": Self.words(unit.profile?.visible),
            "devices": Self.words(unit.profile?.devices),
            "system-calls": Self.words(unit.profile?.systemCalls.map(\.rawValue)),
            "families": Self.words(unit.profile?.families.map(\.rawValue)),
            "allow": Self.words(unit.profile?.permissions.map(\.rawValue)),
            "ready-timeout": unit.readyTimeout == 90 ? nil : .integer(unit.readyTimeout),
            "files": unit.limits[.nofile].map { .integer(Int($0)) },
            "access": Self.words(unit.access.map(\.rawValue)),
            "environment": unit.environment.isEmpty ? nil : .object(unit.environment.mapValues { .text($0) }),
        ])
    }

    private static func words(_ words: [String]?) -> JSON? { words.flatMap { $0.isEmpty ? nil : .texts($0) } }

    public var programs: [String] { Array(command.prefix(1)) }

    public static func mayAllocate(_ line: String) -> Bool { true }

    public func allocated(
        by share: Allocation.Share, of plugin: String
    ) throws(AllocationViolation) -> ServiceResource {
        guard let network = unit.network else { return self }
        guard let name = share.namespaces[network] else {
            throw AllocationViolation(namespace: network, share.namespaces.keys.sorted(), of: plugin)
        }
        var service = self
        service.unit.network = name
        return service
    }

    public func objection(to plugin: String) -> String? {
        name.hasPrefix(plugin + "-") ? nil : "the service \(name) must be named \(plugin)-…"
    }
}

extension Unit.Readiness {
    /// As a plan has it; `once` says ``exited``.
    fileprivate var plan: String {
        switch self {
        case .notify: "notify"
        case .file(let path): "file \(path)"
        case .started, .forked, .exited: "started"
        }
    }

    fileprivate init?(plan text: String) {
        switch text {
        case "started": self = .started
        case "notify": self = .notify
        default:
            guard text.hasPrefix("file /") else { return nil }
            self = .file(String(text.dropFirst(5)))
        }
    }
}

extension ResourceLine {
    /// Words of a closed list.
    fileprivate func names<Name: RawRepresentable & CaseIterable>(
        _ key: String
    ) throws(InvalidResource) -> [Name] where Name.RawValue == String {
        var names: [Name] = []
        for word in try texts(key) {
            guard let name = Name(rawValue: word) else {
                let known = Name.allCases.map(\.rawValue).joined(separator: ", ")
                throw invalid("\"\(key)\" has no \"\(word)\"; allowed are \(known)")
            }
            names.append(name)
        }
        return names
    }
}
