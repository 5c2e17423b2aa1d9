import Documents
import Files
import Glibc
import Nftables
import Planning
import PluginKit
import Processes
import Schema

/// Commands of operators that plugins have: the engine collects each command's inputs, runs the
/// plugin, and carries out the effects that it prints.
final class PluginCommands {
    private let places: Places
    private let planner: Planner
    private let configuration: Configuration
    private let applier: PlanApplier
    private let facts: FactSources
    private let feeds: Feeds
    private let clock: WallClock

    init(
        places: Places, planner: Planner, configuration: Configuration, applier: PlanApplier, facts: FactSources,
        feeds: Feeds, clock: WallClock
    ) {
        (self.places, self.planner, self.configuration, self.applier) = (places, planner, configuration, applier)
        (self.facts, self.feeds, self.clock) = (facts, feeds, clock)
    }

    private var site: Node { configuration.site }
    private var documents: SiteDocuments { configuration.documents }
    private var siteReader: SiteReader { configuration.siteReader }
    private var applied: AppliedState { applier.applied }
    private var nftables: FilterTable { applier.nftables }
    private var now: Int { clock.now }

    /// All commands of the plugins that the site has a part for.
    var list: JSON {
        .list(
            planner.plugins.filter { part(of: $0.manifest) != nil }.flatMap { plugin in
                plugin.manifest.commands.map { command -> JSON in
                    var entries = command.json.object ?? [:]
                    entries["plugin"] = .text(plugin.manifest.name)
                    return .object(entries)
                }
            })
    }

    /// What an argument may be, of a command that says where its values stand.
    func values(of argument: Int, plugin name: String, command: String) throws -> [String] {
        let (plugin, command) = try find(name, command)
        guard command.arguments.indices.contains(argument), let path = command.arguments[argument].values,
            let list = try site[plugin.manifest.key]?.value.value(at: DocumentPath(path)),
            case .sequence(let items) = list.value
        else { return [] }
        return items.compactMap(\.itemName)
    }

    /// What a plugin is given of the document; nil when it has no part in it.
    private func part(of manifest: PluginManifest) -> Node? {
        site[manifest.key]?.value ?? (manifest.isAlwaysPlanned ? Node([:], position: site.position) : nil)
    }

    private func find(_ name: String, _ command: String) throws -> (Planner.Member, OperatorCommand) {
        let known = planner.plugins.map(\.manifest.name)
        guard let plugin = planner.plugins.first(where: { $0.manifest.name == name }) else {
            throw EngineError.unknown("command or plugin", name, known)
        }
        guard let found = plugin.manifest.commands.first(where: { $0.name == command }) else {
            throw EngineError.unknown("command of \(name)", command, plugin.manifest.commands.map(\.name))
        }
        return (plugin, found)
    }

    /// A command that is to be run.
    struct Run {
        fileprivate var plugin: Planner.Member
        fileprivate var command: OperatorCommand
        fileprivate var words: [String]
        /// Whether it is an `act`, which changes something.
        var changes: Bool { command.verb == .act }
        /// How often it may be run again, because the documents were replaced meanwhile.
        var tries = 5
    }

    /// The documents that a plugin's command was given are not the active ones any more.
    struct Outdated: Error, CustomStringConvertible {
        var description: String { "the configuration changes all the time; try again later" }
    }

    /// - Throws: when there is no such command, or it is not for the caller.
    func command(_ name: String, _ command: String, _ words: [String], for request: EngineRequest) throws -> Run {
        let (plugin, command) = try find(name, command)
        if command.verb == .act { try request.demand(.operator, for: "\(name) \(command.name)") }
        return Run(plugin: plugin, command: command, words: words)
    }

    /// Runs a command, and continues with what it shows, or with what came of it.
    func run(
        _ run: Run, for request: EngineRequest, on background: Background,
        then: @escaping (Result<JSON, any Error>) -> Void
    ) throws {
        let (plugin, command, name) = (run.plugin, run.command, run.plugin.manifest.name)
        let input = try input(of: plugin, command, run.words)
        let (runner, verb) = (plugin.runner, command.verb)
        let programs = try command.inputs.compactMap { try self.program($0, of: plugin) }
        // A plugin may repeat a secret of the document that it was given.
        let (known, masks) = (documents, SecretMasks(of: [site]))
        background.run {
            do {
                return try runner.ask(verb.rawValue, .object(input.merging(try Self.outputs(of: programs)) { $1 }))
            } catch {
                throw EngineError(masks.hide(["\(error)"])[0])
            }
        } then: { result in
            do {
                let (rest, warnings) = try Self.diagnosed(try result.get(), hiding: masks)
                switch verb {
                case .show:
                    guard rest.count == 1, rest[0]["columns"]?.list != nil, rest[0]["rows"]?.list != nil else {
                        throw PluginFailure("plugin \(name) show: its answer is no table of columns and rows")
                    }
                    var entries = rest[0].object ?? [:]
                    entries["warnings"] = .texts(warnings)
                    then(.success(.object(entries)))
                case .act:
                    guard self.documents == known else { throw Outdated() }
                    let effects = try rest.map { line in
                        guard let effect = Effect(line) else {
                            throw PluginFailure("plugin \(name) act: this is no effect: \(line.line.prefix(120))")
                        }
                        return effect
                    }
                    let words = ([name, command.name] + run.words).joined(separator: " ")
                    try self.carryOut(effects, of: plugin, words: words, for: request, then: then)
                }
            } catch {
                then(.failure(error))
            }
        }
    }

    private func input(
        of plugin: Planner.Member, _ command: OperatorCommand, _ words: [String]
    ) throws -> [String: JSON] {
        let (name, manifest) = (plugin.manifest.name, plugin.manifest)
        guard let part = part(of: manifest) else {
            throw EngineError("the site has no part for \(name): it has no \(manifest.key): in it")
        }
        try manifest.checkContract()
        let usage = command.arguments.map { $0.isOptional ? "[\($0.name)]" : $0.name.uppercased() }
        guard (command.arguments.filter { !$0.isOptional }.count...command.arguments.count).contains(words.count) else {
            throw EngineError("usage: vcpectl \(([name, command.name] + usage).joined(separator: " "))")
        }
        var input: [String: JSON] = [
            "contract": manifest.contract.map { .integer($0) } ?? .null, "command": .text(command.name),
            "arguments": .object(
                Dictionary(zip(command.arguments.map(\.name), words.map { JSON.text($0) })) { $1 }),
            "configuration": JSON(part), "facts": try facts.current().only(manifest.facts).json, "now": .integer(now),
        ]
        for wanted in command.inputs { try collect(wanted, of: manifest, into: &input) }
        return input
    }

    /// The lines of an answer that are no diagnostics, and the warnings.
    private static func diagnosed(
        _ lines: [JSON], hiding masks: SecretMasks
    ) throws -> (rest: [JSON], warnings: [String]) {
        var (rest, warnings): ([JSON], [String]) = ([], [])
        for line in lines {
            guard let diagnostic = Diagnostic(line) else {
                rest.append(line)
                continue
            }
            if diagnostic.severity == .error { throw EngineError(masks.hide(["\(diagnostic)"])[0]) }
            warnings.append(masks.hide(["\(diagnostic)"])[0])
        }
        return (rest, warnings)
    }

    // MARK: - Inputs

    /// Bytes of a file, and of what a program says.
    private static let most = 4 << 20
    /// Seconds that a program may take.
    private static let patience = 5.0

    private func collect(
        _ wanted: OperatorCommand.Input, of manifest: PluginManifest, into input: inout [String: JSON]
    ) throws {
        let plugin = manifest.name
        func put(_ collection: String, _ key: String, _ text: String) {
            var entries = input[collection]?.object ?? [:]
            entries[key] = .text(text)
            input[collection] = .object(entries)
        }
        switch wanted {
        case .counters:
            input["counters"] = .object(
                (try applier.counters().object ?? [:]).filter { $0.key.hasPrefix(plugin + ".") })
        case .sets:
            var sets: [String: JSON] = [:]
            let fed = feeds.files.content(of: nftables.table)
            for case .set(let set) in applied.plan.filter where set.name.hasPrefix(plugin + ".") {
                if let members = fed[set.name] {
                    sets[set.name] = .list(
                        members.members.compactMap { member in
                            if let until = member.until, until <= now { return nil }
                            return .object([
                                "key": .text(members.key(of: member).words),
                                "expires": member.until.map { .integer($0 - now) },
                            ])
                        })
                    continue
                }
                sets[set.name] = .list(
                    try nftables.members(of: set).map { member in
                        .object([
                            "key": .text(member.key), "expires": member.expires.map { .integer($0) },
                        ])
                    })
            }
            input["sets"] = .object(sets)
        case .services:
            input["services"] = .list(
                try places.pidOne.services().filter {
                    applied.plan.resources[ResourceKey(ServiceResource.kind, $0.name)]?.plugin == plugin
                }.map(\.json))
        case .connections(let argument):
            input["connections"] = try ConnectionListing.json(of: input["arguments"]?[argument]?.text)
        case .past(let argument):
            guard let text = input["arguments"]?[argument]?.text else { return }
            let node = Node(.text(text), position: site.position)
            let problems = ProblemList()
            guard let time = Shape<Int>.time.read(node, path: argument, into: problems) else {
                throw EngineError("\"\(text)\" is no time; 2026-11-25 and 2026-11-25T18:00:00Z are, in UTC")
            }
            guard time <= now else { throw EngineError("\(text) is still to come") }
            input["configuration"] = try configuration.site(at: time)[manifest.key].map { JSON($0.value) } ?? [:]
        case .file(let path):
            guard PluginFolders.isOwn(path, of: plugin) else {
                throw PluginFailure("plugin \(plugin): its manifest asks for \(path), which is not its own")
            }
            let bytes = try PluginFiles(places: places).read(path, most: Self.most)
            put("files", path, String(decoding: bytes ?? [], as: UTF8.self))
        // Programs run when all else is read.
        case .program: break
        }
    }

    /// A program that an input asks for, confined: it sees the image and the plugin's own folders,
    /// and is never root.
    private func program(_ input: OperatorCommand.Input, of plugin: Planner.Member) throws -> Command? {
        guard case .program(let words, let user) = input else { return nil }
        try plugin.checkManifest()
        let number = UInt32(ProgramUser.number)
        var identity = (user: number, group: number)
        if let user {
            guard let known = getpwnam(user), known.pointee.pw_uid != 0, known.pointee.pw_gid != 0 else {
                throw EngineError("\(words[0]): this box has no user \(user) other than root")
            }
            identity = (known.pointee.pw_uid, known.pointee.pw_gid)
        }
        let name = plugin.manifest.name
        let folders = ["\(places.run)/\(name)", "\(places.data)/\(name)"].filter(FileSystem.exists)
        var command = Command(words[0], Array(words.dropFirst()))
        // A client of a daemon makes its own socket beside the daemon's; who may is for the
        // folder's owner to say.
        command.imageProgram = ImageProgram(
            user: identity.user, group: identity.group, writable: folders, hasSockets: true)
        return command
    }

    /// What programs print, by their words.
    private static func outputs(of programs: [Command]) throws -> [String: JSON] {
        if programs.isEmpty { return [:] }
        let outputs = try programs.map { program in
            let result = try program.begin().finish(deadline: patience, limit: most)
            let words = [program.program] + program.arguments
            return (words.joined(separator: " "), JSON.text(result.text))
        }
        return ["programs": .object(Dictionary(outputs) { $1 })]
    }

    // MARK: - Effects

    private func carryOut(
        _ effects: [Effect], of plugin: Planner.Member, words: String, for request: EngineRequest,
        then: @escaping (Result<JSON, any Error>) -> Void
    ) throws {
        let name = plugin.manifest.name
        func own(_ service: String) throws -> String {
            guard applied.plan.resources[ResourceKey(ServiceResource.kind, service)]?.plugin == name else {
                throw PluginFailure("plugin \(name) act: the service \(service) is not its own")
            }
            return service
        }
        // All is inspected before anything is done.
        var edits = try self.edits(for: request.role)
        var said: [String] = []
        var deeds: [() throws -> Void] = []
        let initClient = places.pidOne
        for effect in effects {
            switch effect {
            case .set, .insert, .delete: try edit(&edits, effect, of: plugin.manifest)
            case .restart(let service):
                let service = try own(service)
                deeds.append { try initClient.tell("restart \(service)") }
            case .signal(let service, let signal):
                let service = try own(service)
                deeds.append { try initClient.tell("signal \(service) \(signal.rawValue.uppercased())") }
            case .purge(let folder):
                let files = PluginFiles(places: places)
                guard PluginFolders.isOwn(folder, of: name), files.location(folder) != nil else {
                    throw PluginFailure("plugin \(name) act: the folder \(folder) is not its own")
                }
                deeds.append { try files.purge(folder) }
            case .admit(let feed, _, _), .expel(let feed, _):
                guard feed.hasPrefix(name + ".") else {
                    throw PluginFailure("plugin \(name) act: the feed \(feed) is not its own")
                }
                deeds.append {
                    if case .admit(_, let member, let seconds) = effect {
                        _ = try self.feeds.change(feed, .add, member, seconds: seconds)
                    } else if case .expel(_, let member) = effect {
                        _ = try self.feeds.change(feed, .remove, member, seconds: nil)
                    }
                }
            case .forget(let set, let member):
                guard set.hasPrefix(name + "."), let known = nftables.table.sets[set], known.flags.contains(.dynamic),
                    known.key.count == 1
                else { throw PluginFailure("plugin \(name) act: packets fill no set \(set) of it") }
                deeds.append { try self.nftables.forget(.text(member), of: known) }
            case .say(let text): said.append(text)
            }
        }
        var warnings: [String] = []
        func finish(_ done: Configuration.Committed?) -> Result<JSON, any Error> {
            Result {
                for deed in deeds { try deed() }
                var answer = done?.json.object ?? [:]
                answer["said"] = .texts(said)
                if let done { answer["warnings"] = .texts(warnings + done.warnings) }
                return .object(answer)
            }
        }
        guard edits.isChanged else { return then(finish(nil)) }
        let known = documents
        configuration.commit(for: request.connection) {
            // The paths of the effects count items of the documents that the plugin was given.
            guard self.documents == known else { throw Outdated() }
            warnings = edits.warnings
            return try self.change(by: edits, user: request.user, role: request.role, words: words)
        } then: { result in
            then(result.flatMap { finish($0) })
        }
    }

    private func edits(for role: Role) throws -> PluginEdits {
        let owner = role.document
        let isAlone = owner == .provider && documents.given.allSatisfy { $0 == .provider }
        let whole = try siteReader.nodes(of: documents, name: "site")[owner]
        return PluginEdits(
            of: whole ?? Node([:], position: site.position), site: site, owner: isAlone ? nil : owner
        ) { [places] in Schema.all(in: places.plugins) }
    }

    private func edit(_ edits: inout PluginEdits, _ effect: Effect, of manifest: PluginManifest) throws {
        func path(_ path: String) throws -> DocumentPath {
            try DocumentPath(path.isEmpty ? manifest.key : "\(manifest.key).\(path)")
        }
        func node(_ json: JSON) -> Node { Node(json, position: site.position) }
        switch effect {
        case .set(let place, let value): try edits.set(node(value), at: path(place))
        case .insert(let place, let index, let value): try edits.insert(node(value), at: index, of: path(place))
        case .delete(let place): try edits.remove(at: path(place))
        default: break
        }
    }

    private func change(
        by edits: PluginEdits, user: String, role: Role, words: String
    ) throws -> Configuration.Change {
        // It would be confirmed by the way.
        if let number = configuration.head.pending?.commit, configuration.rollbackAt != nil {
            throw EngineError(
                "commit \(number) waits for its confirmation: vcpectl confirm, or let it be rolled back, first")
        }
        let owner = role.document
        try configuration.checkPending(changing: owner == .provider ? Set(SiteDocument.allCases) : [owner])
        var change = try configuration.change(edits.document.yaml, as: owner, name: "site", user: user)
        change.comment = words
        change.role = role
        try checkEffect(of: change.documents, owner)
        return change
    }
}

extension PluginCommands {
    /// A command that only writes down what has no effect has failed.
    private func checkEffect(of changed: SiteDocuments, _ owner: SiteDocument) throws {
        guard owner != .provider else { return }
        let before = Set(try siteReader.read(documents, name: "site").overridden.map(\.path))
        let new = try siteReader.read(changed, name: "site").overridden.filter {
            $0.position.file == owner.rawValue && !before.contains($0.path)
        }
        if !new.isEmpty { throw InvalidSite(problems: new.map { "error: \($0)" }) }
    }
}

extension EngineError {
    /// What is not among what is known, with the one that was likely meant.
    static func unknown(_ what: String, _ name: String, _ known: [String]) -> EngineError {
        let meant = didYouMean(name, among: known).map { "did you mean \($0)? " } ?? ""
        return EngineError(
            "there is no \(what) \"\(name)\"; \(meant)known are "
                + (known.isEmpty ? "none" : known.sorted().joined(separator: ", ")))
    }
}
