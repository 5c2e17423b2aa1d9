import Units

/// A plugin: a pure function from a site's configuration to what the box shall have.
///
/// It does no I/O and knows no clock: the same input gives the same output, byte for byte. `docs/plugins.md` has the
/// contract in JSON, for plugins in any language.
public protocol Plugin {
    associatedtype Configuration

    /// What the plugin is, and what it needs.
    static var manifest: PluginManifest { get }

    /// How its part of the site document is read; what is wrong there is found here as far as it can be found without
    /// knowing the rest.
    static var configuration: Shape<Configuration> { get }

    /// Says what others may build upon: zones, interfaces, openings. Runs for all plugins before any plans.
    static func publish(_ configuration: Configuration, facts: Facts, into output: inout PublishOutput)

    /// Says what the box shall have.
    static func plan(_ configuration: Configuration, input: PlanInput, into output: inout PlanOutput)

    /// Shows what one of the manifest's commands is for.
    static func show(
        _ command: String, _ configuration: Configuration, input: CommandInput, into output: inout ShowOutput)

    /// Does what one of the manifest's commands is for.
    static func act(
        _ command: String, _ configuration: Configuration, input: CommandInput, into output: inout ActOutput)

    /// Makes of a configuration that another version of the plugin took one that this version takes.
    static func migrate(_ configuration: JSON, from version: String) -> JSON
}

extension Plugin {
    public static func show(
        _ command: String, _ configuration: Configuration, input: CommandInput, into output: inout ShowOutput
    ) {}

    public static func act(
        _ command: String, _ configuration: Configuration, input: CommandInput, into output: inout ActOutput
    ) {}

    public static func migrate(_ configuration: JSON, from version: String) -> JSON { configuration }
}

/// What a plugin is, and what it needs. Also a file in the plugin's folder, so that an image can be composed before the
/// plugin can run.
public struct PluginManifest: Sendable, Hashable {
    /// The versions of the contract between engine and plugins that this engine speaks, the best one last. The highest one
    /// that a plugin speaks too is used, and said in every input.
    public static let contracts = [1]

    /// What a part of the plugin needs in an image.
    public struct Feature: Sendable, Hashable {
        public var name: String
        /// Debian packages.
        public var packages: [String]
        /// Kernel modules.
        public var modules: [String]
        /// System users that no package's sysusers.d declares, with their homes.
        public var users: [String: String]

        public init(
            _ name: String, packages: [String] = [], modules: [String] = [], users: [String: String] = [:]
        ) {
            self.name = name
            self.packages = packages
            self.modules = modules
            self.users = users
        }
    }

    public var name: String
    public var version: String
    /// The versions of the contract that it speaks.
    public var contracts: [Int]
    /// One line for people.
    public var summary: String
    /// Its one key at the top of the site document.
    public var key: String
    /// The file of its YANG module, in the plugin's folder.
    public var yang: String
    /// Further files of its folder that it wants beside it on the box.
    public var files: [String]
    /// The collections that it publishes in: with none it is never asked; nil when it doesn't say.
    public var publishes: [String]?
    /// The published collections that it reads: it gets no others. Nil for all, so that each change
    /// of what others publish plans it again.
    public var reads: [String]?
    /// The collections of facts that it reads: it gets no others, and only their changes plan it
    /// again.
    public var facts: [String]
    /// The collections that its services may fill with `vcpe-report`; each with the names of the
    /// services, of which the last character may be a `*`.
    public var reports: [String: [String]]
    /// The rights to ask PID 1, the engine and the updater that its services may have: each a word
    /// of a unit's `access`, with the names of the services as in ``reports``.
    public var access: [Unit.Access: [String]]
    /// What its plans may have at most, beside what other keys grant: ``granted`` is all of it.
    public var permissions: Permissions
    /// Lists of its YANG module that show the box's operational state.
    public var state: [StateList]
    /// Whether it plans for documents without its key, too, as if that held an empty mapping.
    public var isAlwaysPlanned: Bool
    /// Paths of its part that only the provider's document may set. An empty one is the whole part.
    public var locks: [String]
    /// Raised when its daemons come to write what they keep below /data/NAME so that earlier ones can't read it: those find what they left, when they come back.
    public var stateFormat: Int
    /// The kinds of resources that it plans: those of the engine, and those that drivers of plugins add.
    public var resources: [String]
    /// Its programs that drive kinds of resources.
    public var drivers: [Driver]
    /// What it needs of the numbers that all plugins of an image share.
    public var allocates: AllocationRequest
    /// Its parts; the first one is in every image that has the plugin.
    public var features: [Feature]
    public var commands: [OperatorCommand]

    public init(
        name: String, version: String, contracts: [Int] = PluginManifest.contracts, summary: String, key: String,
        yang: String, files: [String] = [], publishes: [String]? = nil, reads: [String]? = nil,
        facts: [String] = [], reports: [String: [String]] = [:], access: [Unit.Access: [String]] = [:],
        permissions: Permissions = Permissions(), state: [StateList] = [], isAlwaysPlanned: Bool = false,
        locks: [String] = [], stateFormat: Int = 1,
        resources: [String],
        drivers: [Driver] = [], allocates: AllocationRequest = AllocationRequest(), features: [Feature],
        commands: [OperatorCommand] = []
    ) {
        self.name = name
        self.version = version
        self.contracts = contracts
        self.files = files
        self.publishes = publishes
        self.reads = reads
        self.facts = facts
        self.reports = reports
        self.access = access
        self.permissions = permissions
        self.state = state
        self.isAlwaysPlanned = isAlwaysPlanned
        self.locks = locks
        self.stateFormat = stateFormat
        self.commands = commands
        self.summary = summary
        self.key = key
        self.yang = yang
        self.resources = resources
        self.drivers = drivers
        self.allocates = allocates
        self.features = features
    }

    public var json: JSON {
        .object([
            "name": .text(name), "version": .text(version), "summary": .text(summary),
            "files": files.isEmpty ? nil : .texts(files), "publishes": publishes.map { .texts($0) },
            "reads": reads.map { .texts($0) }, "facts": facts.isEmpty ? nil : .texts(facts),
            "reports": reports.isEmpty ? nil : .object(reports.mapValues { .texts($0) }),
            "access": access.isEmpty
                ? nil : .object(Dictionary(uniqueKeysWithValues: access.map { ($0.key.rawValue, .texts($0.value)) })),
            "permissions": permissions.isEmpty ? nil : permissions.json,
            "state": state.isEmpty ? nil : .list(state.map(\.json)),
            "always": isAlwaysPlanned ? .boolean(true) : nil, "locks": locks.isEmpty ? nil : .texts(locks),
            "state-format": stateFormat == 1 ? nil : .integer(stateFormat),
            "contract": .list(contracts.map { .integer($0) }), "commands": .list(commands.map(\.json)),
            "key": .text(key), "yang": .text(yang),
            "resources": .texts(resources), "drivers": drivers.isEmpty ? nil : .list(drivers.map(\.json)),
            "allocates": allocates.isEmpty ? nil : allocates.json,
            "features": .list(
                features.map { feature in
                    [
                        "name": .text(feature.name), "packages": .texts(feature.packages),
                        "modules": .texts(feature.modules), "users": .object(feature.users.mapValues { .text($0) }),
                    ]
                }),
        ])
    }

    /// A version, or a list of them.
    private static var contractVersions: Shape<[Int]> {
        let version = Shape.integer(1...1000)
        return Shape("a version of the contract, or a list of them") { node, path, problems in
            if case .sequence = node.value { return Shape.list(of: version).read(node, path: path, into: problems) }
            return version.read(node, path: path, into: problems).map { [$0] }
        }
    }

    /// The version of the contract that both sides speak; nil when there is none.
    public var contract: Int? { contracts.filter(Self.contracts.contains).max() }

    /// Whether one of its services may have a right to ask other processes.
    public func mayAccess(_ access: Unit.Access, _ service: String) -> Bool {
        (self.access[access] ?? []).contains { name in
            name.hasSuffix("*") ? service.hasPrefix(String(name.dropLast())) : service == name
        }
    }

    /// Reads a manifest; every problem is noted.
    public static var shape: Shape<PluginManifest> {
        .mapping("a plugin's manifest") { fields in
            let contracts = fields.required("contract", contractVersions)
            let name = fields.required("name", .name)
            let version = fields.required("version", .text)
            let summary = fields.required("summary", .text)
            // That one locks paths for the documents below.
            let key = fields.required("key", .text("a key of the document other than locks") { $0 != "locks" })
            let yang = fields.required("yang", .text)
            let file = Shape.text("the name of a file in the plugin's folder") { !$0.isEmpty && !$0.contains("/") }
            let files = fields.optional("files", .list(of: file)) ?? []
            let publishes = fields.optional("publishes", .list(of: .text))
            let reads = fields.optional("reads", .list(of: .text))
            let facts = fields.optional("facts", .list(of: .name)) ?? []
            let reports = fields.optional("reports", .dictionary(.name, .list(of: .text))) ?? []
            let access = fields.optional(
                "access", .dictionary(.oneOf(Unit.Access.allCases.map(\.rawValue)), .list(of: .text)))
            let permissions = fields.optional("permissions", Permissions.shape) ?? Permissions()
            let state = fields.optional("state", .list(of: StateList.shape)) ?? []
            let isAlwaysPlanned = fields.optional("always", .boolean) ?? false
            let path = Shape.text("a path of the plugin's part, such as users or rules[web].action") {
                (try? DocumentPath($0)) != nil
            }
            let locks = fields.optional("locks", .list(of: path)) ?? []
            let stateFormat = fields.optional("state-format", .integer(1...1_000_000)) ?? 1
            // A kind that no driver of this plugin drives may be another's: `kindProblems` looks at all of them.
            let resources = fields.required("resources", .list(of: .name))
            let drivers = fields.optional("drivers", .list(of: Driver.shape.located)) ?? []
            fields.problems.checkUnique(drivers, "driver of the kind") { $0.kind }
            let allocates = fields.optional("allocates", AllocationRequest.shape) ?? AllocationRequest()
            let feature = Shape<Feature>.mapping("a feature") { fields in
                guard let name = fields.required("name", .text) else { return nil }
                return Feature(
                    name, packages: fields.optional("packages", .list(of: .text)) ?? [],
                    modules: fields.optional("modules", .list(of: .text)) ?? [],
                    users: Dictionary(
                        (fields.optional("users", .dictionary(.text, .text)) ?? []).map { ($0.key, $0.value) }
                    ) { $1 })
            }
            let features = fields.required("features", .list(of: feature))
            let commands = fields.optional("commands", .list(of: OperatorCommand.shape)) ?? []
            guard let contracts, let name, let version, let summary, let key, let yang, let resources, let features
            else { return nil }
            for (collection, _) in reports where !FactCollections.mayReport(name, into: collection) {
                fields.problems.add(
                    fields.node, "reports.\(collection)", "the collection is not one that its services may fill",
                    hint: "allowed are leases, prefixes, routers, tunnels, \(name) and \(name)-…")
                return nil
            }
            for command in commands {
                for case .program(let words, _) in command.inputs where !permissions.mayRun(words) {
                    let program = Permissions.program(of: words)
                    fields.problems.add(
                        fields.node, "commands",
                        "the command \(command.name) has the engine run \"\(program)\", which permissions.programs lacks",
                        hint: "add permissions.programs: [\"\(program)\"]")
                    return nil
                }
            }
            return PluginManifest(
                name: name, version: version, contracts: contracts, summary: summary, key: key, yang: yang,
                files: files, publishes: publishes, reads: reads, facts: facts,
                reports: Dictionary(reports.map { ($0.key, $0.value) }) { $1 },
                access: Dictionary(
                    (access ?? []).compactMap { pair in Unit.Access(rawValue: pair.key).map { ($0, pair.value) } }
                ) { $1 }, permissions: permissions, state: state,
                isAlwaysPlanned: isAlwaysPlanned, locks: locks, stateFormat: stateFormat, resources: resources,
                drivers: drivers.map(\.value), allocates: allocates, features: features, commands: commands)
        }
    }
}
