/// A program that PID 1 keeps running; `docs/init.md` describes each word.
public struct ServiceResource: ResourceType {
    public static let kind = "service"

    public enum Readiness: Sendable, Hashable {
        /// As soon as it runs.
        case started
        /// When it reports so on the notify socket (sd_notify(3)).
        case notified
        /// When the file exists.
        case file(String)

        var text: String {
            switch self {
            case .started: "started"
            case .notified: "notify"
            case .file(let path): "file \(path)"
            }
        }

        init?(_ text: String) {
            switch text {
            case "started": self = .started
            case "notify": self = .notified
            default:
                guard text.hasPrefix("file /") else { return nil }
                self = .file(String(text.dropFirst(5)))
            }
        }
    }

    /// The plugin's name, a hyphen, and a name of its own.
    public var name: String
    public var command: [String]
    public var user: String
    /// Linux capabilities that it keeps, such as `net_bind_service`.
    public var capabilities: [String]
    public var readiness: Readiness
    /// Directories that exist before it starts, owned by its user.
    public var directories: [String]
    /// It is restarted when one of these files of the plan has changed.
    public var configurationFiles: [String]
    /// It gets SIGHUP when one of these files of the plan has changed.
    public var reloadFiles: [String]
    /// Bytes that all its processes may use.
    public var memory: Int?

    public init(
        name: String, command: [String], user: String = "root", capabilities: [String] = [],
        readiness: Readiness = .started, directories: [String] = [], configurationFiles: [String] = [],
        reloadFiles: [String] = [], memory: Int? = nil
    ) {
        self.name = name
        self.command = command
        self.user = user
        self.capabilities = capabilities
        self.readiness = readiness
        self.directories = directories
        self.configurationFiles = configurationFiles
        self.reloadFiles = reloadFiles
        self.memory = memory
    }

    /// As PID 1 names its unit files.
    private static func isUnitName(_ name: String) -> Bool {
        (1...64).contains(name.utf8.count) && name.utf8.first != UInt8(ascii: ".")
            && name.utf8.allSatisfy { byte in
                (0x61...0x7A).contains(byte) || (0x41...0x5A).contains(byte) || (0x30...0x39).contains(byte)
                    || [0x2D, 0x2E, 0x5F].contains(byte)
            }
    }

    public init(_ line: ResourceLine) throws(InvalidResource) {
        let command = try line.texts("command")
        guard command.first?.hasPrefix("/") == true else {
            throw line.invalid("a service needs a command that begins with an absolute path")
        }
        self.init(
            name: try line.value("name") { Self.isUnitName($0) ? $0 : nil }, command: command,
            user: try line.text("user") ?? "root", capabilities: try line.texts("capabilities"),
            readiness: try line.optional("ready") { Readiness($0) } ?? .started,
            directories: try line.texts("directories"), configurationFiles: try line.texts("configuration-files"),
            reloadFiles: try line.texts("reload-files"), memory: try line.number("memory", 1 << 20...1 << 50))
        // A unit file has one word a line: a line break would add another.
        let texts = command + capabilities + directories + configurationFiles + [user, readiness.text]
        guard texts.allSatisfy({ text in text.utf8.allSatisfy { $0 != 0x0A && $0 != 0 } }) else {
            throw line.invalid("a service's texts can't contain a line break")
        }
    }

    public var identity: String { name }

    public var fields: [String: JSON] {
        Self.fields([
            "name": .text(name), "command": .texts(command), "user": .text(user),
            "capabilities": .texts(capabilities), "ready": .text(readiness.text), "directories": .texts(directories),
            "configuration-files": .texts(configurationFiles),
            "reload-files": reloadFiles.isEmpty ? nil : .texts(reloadFiles), "memory": memory.map { .integer($0) },
        ])
    }

    public var programs: [String] { Array(command.prefix(1)) }

    public func objection(to plugin: String) -> String? {
        name.hasPrefix(plugin + "-") ? nil : "the service \(name) must be named \(plugin)-…"
    }
}
