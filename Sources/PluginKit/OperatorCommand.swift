/// A command of operators that a plugin has: `vcpectl PLUGIN COMMAND`.
public struct OperatorCommand: Sendable, Hashable {
    public enum Verb: String, Sendable, CaseIterable {
        /// Shows a table and changes nothing.
        case show
        /// Has effects.
        case act
    }

    /// What the operator says behind the command's name, in this order.
    public struct Argument: Sendable, Hashable {
        public var name: String
        public var summary: String
        public var isOptional: Bool
        /// Where completion finds values: a path of lists in the plugin's configuration, such as `rules`; each item's name.
        public var values: String?

        public init(_ name: String, _ summary: String, isOptional: Bool = false, values: String? = nil) {
            self.name = name
            self.summary = summary
            self.isOptional = isOptional
            self.values = values
        }
    }

    /// What the engine collects for it, beside the configuration and the facts.
    public enum Input: Sendable, Hashable {
        /// What the plugin's named counters have counted.
        case counters
        /// The members of the plugin's named sets.
        case sets
        /// How the plugin's services are.
        case services
        /// Connections that the kernel keeps track of, of the address that an argument says where it is given.
        case connections(String)
        /// The plugin's configuration as it was at the time that an argument says; the configuration itself is that one then.
        case past(String)
        /// A file below /run/vcpe/NAME or /data/NAME.
        case file(String)
        /// What a program of the image says. It runs confined, as a user of the image, who is not
        /// root; nil for one that owns nothing.
        case program([String], user: String? = nil)

        var json: JSON {
            switch self {
            case .counters: "counters"
            case .sets: "sets"
            case .services: "services"
            case .past(let argument): ["past": .text(argument)]
            case .connections(let argument): ["connections": .text(argument)]
            case .file(let path): ["file": .text(path)]
            case .program(let words, let user):
                .object(["program": .texts(words), "user": user.map { .text($0) }])
            }
        }
    }

    public var name: String
    /// One line for people.
    public var summary: String
    public var verb: Verb
    public var arguments: [Argument]
    public var inputs: [Input]

    public init(
        _ verb: Verb, _ name: String, _ summary: String, arguments: [Argument] = [], inputs: [Input] = []
    ) {
        self.verb = verb
        self.name = name
        self.summary = summary
        self.arguments = arguments
        self.inputs = inputs
    }

    public var json: JSON {
        .object([
            "name": .text(name), "summary": .text(summary), "verb": .text(verb.rawValue),
            "arguments": .list(
                arguments.map { argument in
                    .object([
                        "name": .text(argument.name), "summary": .text(argument.summary),
                        "optional": argument.isOptional ? true : nil, "values": argument.values.map { .text($0) },
                    ])
                }), "inputs": .list(inputs.map(\.json)),
        ])
    }

    /// Nil for what is no command.
    public init?(_ json: JSON) {
        let node = Node(json, position: SourcePosition(file: "", line: 1, column: 1)).without("plugin")
        guard let command = Self.shape.read(node, path: "", into: ProblemList()) else { return nil }
        self = command
    }

    static var shape: Shape<OperatorCommand> {
        .mapping("an operator's command") { fields in
            let name = fields.required("name", .name)
            let summary = fields.required("summary", .text)
            let verb = fields.required(
                "verb", Shape.oneOf(Verb.allCases.map(\.rawValue)).map { Verb(rawValue: $0) })
            let argument = Shape<Argument>.mapping("an argument") { fields in
                let name = fields.required("name", .name)
                let summary = fields.optional("summary", .text) ?? ""
                let isOptional = fields.optional("optional", .boolean) ?? false
                let values = fields.optional("values", .text)
                return name.map { Argument($0, summary, isOptional: isOptional, values: values) }
            }
            let arguments = fields.optional("arguments", .list(of: argument)) ?? []
            let inputs = fields.optional("inputs", .list(of: input)) ?? []
            guard let name, let summary, let verb else { return nil }
            return OperatorCommand(verb, name, summary, arguments: arguments, inputs: inputs)
        }
    }

    private static var input: Shape<Input> {
        let words: Shape<Input> = Shape<String>.oneOf(["counters", "sets", "services"]).map { text -> Input? in
            ["counters": .counters, "sets": .sets, "services": .services][text]
        }
        let absolute = Shape.text("an absolute path") { $0.hasPrefix("/") }
        let mapping = Shape<Input>.mapping(
            "counters, sets, services, {past: ARGUMENT}, {connections: ARGUMENT}, {file: PATH} or "
                + "{program: [PATH, …], user: USER}"
        ) { fields in
            if let argument = fields.optional("past", .name) { return .past(argument) }
            if let argument = fields.optional("connections", .name) { return .connections(argument) }
            let file = fields.optional("file", absolute)
            let program = fields.optional("program", .list(of: .text))
            let user = fields.optional(
                "user", .text("a user of the image other than root") { $0 != "root" && UInt32($0) == nil })
            if let file { return .file(file) }
            return program.flatMap { $0.first?.hasPrefix("/") == true ? .program($0, user: user) : nil }
        }
        return Shape(mapping.allowed) { node, path, problems in
            if case .mapping = node.value { return mapping.read(node, path: path, into: problems) }
            return words.read(node, path: path, into: problems)
        }
    }
}

/// What a command is run with.
public struct CommandInput: Sendable {
    /// By the argument's name.
    public var arguments: [String: String] = [:]
    public var facts = Facts()
    /// Seconds since 1970.
    public var now = 0
    /// By name.
    public var counters: [String: (packets: Int, bytes: Int)] = [:]
    /// By the set's name.
    public var sets: [String: [Member]] = [:]
    public var services: [Service] = []
    public var connections: [Connection] = []
    /// By path; empty for one that isn't there.
    public var files: [String: String] = [:]
    /// What programs said, by their words with blanks in between.
    public var programs: [String: String] = [:]

    public struct Member: Sendable, Hashable {
        /// As nft writes it; the parts of a concatenation with ` . ` in between.
        public var key: String
        /// Seconds until it goes; nil for one that stays.
        public var expires: Int?
    }

    public struct Connection: Sendable, Hashable {
        /// As its packets come in, in one of its directions.
        public struct Tuple: Sendable, Hashable {
            public var source: String
            public var destination: String
            public var sourcePort: Int?
            public var port: Int?

            init(_ json: JSON?) {
                (source, destination) = (json?["source"]?.text ?? "", json?["destination"]?.text ?? "")
                (sourcePort, port) = (json?["source-port"]?.integer, json?["port"]?.integer)
            }
        }

        public var original: Tuple
        public var reply: Tuple
        /// IANA's number of the protocol.
        public var transport: Int
        public var state: String
        /// That it stays without a packet.
        public var seconds: Int

        init(_ json: JSON) {
            (original, reply) = (Tuple(json["original"]), Tuple(json["reply"]))
            (transport, seconds) = (json["protocol"]?.integer ?? 0, json["seconds"]?.integer ?? 0)
            state = json["state"]?.text ?? ""
        }
    }

    public struct Service: Sendable, Hashable {
        public var name: String
        public var state: String
        /// Times that it was started again.
        public var restarts: Int
        /// Bytes.
        public var memory: Int
        /// Its own words.
        public var status: String
    }

    public init() {}

    init(_ json: JSON, facts: Facts) {
        self.facts = facts
        now = json["now"]?.integer ?? 0
        arguments = json["arguments"]?.object?.compactMapValues(\.text) ?? [:]
        counters =
            json["counters"]?.object?.mapValues { ($0["packets"]?.integer ?? 0, $0["bytes"]?.integer ?? 0) } ?? [:]
        sets =
            json["sets"]?.object?.mapValues { members in
                (members.list ?? []).map { Member(key: $0["key"]?.text ?? "", expires: $0["expires"]?.integer) }
            } ?? [:]
        services = (json["services"]?.list ?? []).map {
            Service(
                name: $0["name"]?.text ?? "", state: $0["state"]?.text ?? "", restarts: $0["restarts"]?.integer ?? 0,
                memory: $0["memory"]?.integer ?? 0, status: $0["status"]?.text ?? "")
        }
        connections = (json["connections"]?.list ?? []).map { Connection($0) }
        files = json["files"]?.object?.compactMapValues(\.text) ?? [:]
        programs = json["programs"]?.object?.compactMapValues(\.text) ?? [:]
    }
}

/// What a command shows: a table for people, the same rows by their columns for programs.
public struct ShowOutput {
    /// In lower case, such as `packets`.
    public var columns: [String] = []
    /// Texts and numbers, as many as there are columns.
    public private(set) var rows: [[JSON]] = []
    public private(set) var diagnostics: [Diagnostic] = []

    public init() {}

    public mutating func add(_ row: JSON...) { rows.append(row) }

    public mutating func say(_ severity: Diagnostic.Severity, path: String, _ message: String, hint: String? = nil) {
        diagnostics.append(Diagnostic(severity, path: path, message, hint: hint))
    }

    var lines: [String] {
        [(["columns": .texts(columns), "rows": .list(rows.map { .list($0) })] as JSON).line]
            + diagnostics.map(\.json.line)
    }
}

/// What a command does, in this order.
public struct ActOutput {
    public private(set) var effects: [Effect] = []
    public private(set) var diagnostics: [Diagnostic] = []

    public init() {}

    public mutating func add(_ effect: Effect) { effects.append(effect) }

    public mutating func say(_ severity: Diagnostic.Severity, path: String, _ message: String, hint: String? = nil) {
        diagnostics.append(Diagnostic(severity, path: path, message, hint: hint))
    }

    var lines: [String] { effects.map(\.json.line) + diagnostics.map(\.json.line) }
}

/// What a command may bring about: a closed list.
public enum Effect: Sendable, Hashable {
    /// Sets a value of the plugin's configuration; all edits together are one commit.
    case set(path: String, JSON)
    /// Puts an item into a list of the plugin's configuration.
    case insert(path: String, at: Int, JSON)
    case delete(path: String)
    /// Starts one of the plugin's services anew.
    case restart(service: String)
    case signal(service: String, Signal)
    /// Empties a folder below /run/vcpe/NAME or /data/NAME.
    case purge(folder: String)
    /// Puts a member into one of the plugin's feeds, for so many seconds; nil for good.
    case admit(feed: String, String, seconds: Int?)
    /// Takes it out again.
    case expel(feed: String, String)
    /// Takes out of one of the plugin's sets what a packet has put there.
    case forget(set: String, String)
    /// A line for people.
    case say(String)

    public enum Signal: String, Sendable, CaseIterable { case hup, usr1, usr2 }

    public var json: JSON {
        switch self {
        case .set(let path, let value): ["effect": "set", "path": .text(path), "value": value]
        case .insert(let path, let index, let value):
            ["effect": "insert", "path": .text(path), "at": .integer(index), "value": value]
        case .delete(let path): ["effect": "delete", "path": .text(path)]
        case .restart(let service): ["effect": "restart", "service": .text(service)]
        case .signal(let service, let signal):
            ["effect": "signal", "service": .text(service), "signal": .text(signal.rawValue)]
        case .purge(let folder): ["effect": "purge", "folder": .text(folder)]
        case .admit(let feed, let member, let seconds):
            .object([
                "effect": "admit", "feed": .text(feed), "member": .text(member),
                "seconds": seconds.map { .integer($0) },
            ])
        case .expel(let feed, let member): ["effect": "expel", "feed": .text(feed), "member": .text(member)]
        case .forget(let set, let member): ["effect": "forget", "set": .text(set), "member": .text(member)]
        case .say(let text): ["effect": "say", "text": .text(text)]
        }
    }

    /// Nil for a line that is none of the list.
    public init?(_ json: JSON) {
        let (path, service) = (json["path"]?.text, json["service"]?.text)
        switch json["effect"]?.text {
        case "set":
            guard let path, let value = json["value"] else { return nil }
            self = .set(path: path, value)
        case "insert":
            guard let path, let value = json["value"], let index = json["at"]?.integer else { return nil }
            self = .insert(path: path, at: index, value)
        case "delete":
            guard let path else { return nil }
            self = .delete(path: path)
        case "restart":
            guard let service else { return nil }
            self = .restart(service: service)
        case "signal":
            guard let service, let signal = (json["signal"]?.text).flatMap(Signal.init) else { return nil }
            self = .signal(service: service, signal)
        case "purge":
            guard let folder = json["folder"]?.text else { return nil }
            self = .purge(folder: folder)
        case "admit", "expel":
            guard let feed = json["feed"]?.text, let member = json["member"]?.text else { return nil }
            self =
                json["effect"] == "admit"
                ? .admit(feed: feed, member, seconds: json["seconds"]?.integer) : .expel(feed: feed, member)
        case "forget":
            guard let set = json["set"]?.text, let member = json["member"]?.text else { return nil }
            self = .forget(set: set, member)
        case "say":
            guard let text = json["text"]?.text else { return nil }
            self = .say(text)
        default: return nil
        }
    }
}
