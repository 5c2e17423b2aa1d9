import Accounts
import Callers
import Documents
import Glibc
import PluginKit

extension Engine {
    /// Answers one request of the local socket (`docs/api.md`), now or later.
    func answer(_ json: JSON, _ connection: ClientConnection) {
        let caller = connection.caller
        let name = json["do"]?.text ?? ""
        do {
            if name == "note" { return connection.answer(try note(json, of: caller)) }
            guard let role = connection.role else {
                throw EngineError(
                    refusal:
                        "\(caller.name), \(caller.description), has no role on this box: the site's users have one "
                        + "in a login session, and services whose unit says access engine")
            }
            let verb = try Self.verb(name)
            let request = EngineRequest(json: json, user: caller.name, role: role, connection: connection)
            if verb.isAudited { begin(request, as: name) }
            try request.demand(verb.role, for: name)
            if let answer = try verb.answer(self, request) { self.answer(.success(answer), to: connection) }
        } catch {
            if connection.audited == nil, (error as? EngineError)?.isRefusal == true {
                let what = name == "may" ? json["request"]?.text ?? name : name
                connection.audited = AuditedRequest(connection.subject, what)
            }
            self.answer(.failure(error), to: connection)
        }
    }

    /// Has the audit log get a request when it is answered.
    private func begin(_ request: EngineRequest, as name: String) {
        request.connection.audited = AuditedRequest(request.connection.subject, name, request.auditDetails)
    }

    /// Answers a request that has been carried out, or was refused.
    private func answer(_ result: Result<JSON, any Error>, to connection: ClientConnection) {
        audit(result, of: connection)
        switch result {
        case .success(let answer): connection.answer(answer)
        // A plugin may repeat a secret of a document that the caller must not read.
        case .failure(let error):
            connection.answer(["error": .text(configuration.hidingSecrets(["\(error)"])[0])])
        }
    }

    /// Runs a plugin's command, and answers with what came of it.
    private func run(_ command: PluginCommands.Run, for request: EngineRequest) {
        answers.add(request.connection) { background in
            try self.commands.run(command, for: request, on: background) { result in
                // The plugin knew a document that was replaced meanwhile.
                if case .failure(let error) = result, error is PluginCommands.Outdated, command.tries > 0 {
                    var again = command
                    again.tries -= 1
                    return self.run(again, for: request)
                }
                self.answer(result, to: request.connection)
            }
        } failed: {
            self.answer(.failure($0), to: request.connection)
        }
    }

    /// Has documents committed as a request wants it, which is answered later.
    ///
    /// - Parameter then: is done when they are.
    private func commit(
        for request: EngineRequest, _ change: @escaping () throws -> Configuration.Change,
        then: @escaping (Configuration.Change) -> Void = { _ in }
    ) throws -> JSON? {
        let confirm = try request.confirm()
        var last: Configuration.Change?
        configuration.commit(for: request.connection) {
            try self.configuration.checkPending(changing: request.role.documents)
            var change = try change()
            change.comment = [change.comment, request.comment].filter { !$0.isEmpty }.joined(separator: ": ")
            change.confirm = confirm
            change.role = request.role
            last = change
            return change
        } then: { result in
            if case .success = result, let last { then(last) }
            self.answer(result.map(\.json), to: request.connection)
        }
        return nil
    }

    /// A request, and who may make it. An answer of nil comes later, by the request's connection.
    private struct Verb: Sendable {
        let role: Role
        /// Whether the audit log gets every request; else those that are refused.
        let isAudited: Bool
        let answer: @Sendable (Engine, EngineRequest) throws -> JSON?

        /// - Parameter isAudited: what a user who may only read can't do changes something.
        init(
            _ role: Role, isAudited: Bool? = nil,
            _ answer: @escaping @Sendable (Engine, EngineRequest) throws -> JSON?
        ) {
            (self.role, self.isAudited, self.answer) = (role, isAudited ?? (role > .readOnly), answer)
        }
    }

    private static func verb(_ name: String) throws -> Verb {
        guard let verb = verbs[name] else { throw EngineError.unknown("request", name, Array(verbs.keys)) }
        return verb
    }

    private static let verbs: [String: Verb] = [
        "status": Verb(.readOnly) { engine, _ in engine.status },
        "health": Verb(.readOnly) { engine, _ in
            [
                "probes": engine.health.probes.json, "tables": .texts(engine.tables.lines),
                "clock": engine.clock.refusal.map { ["refused": .integer($0.time), "instead": .integer($0.instead)] }
                    ?? .null,
                "kernel": .list(
                    HardenedSettings().changes.map {
                        ["key": .text($0.key), "wanted": .text($0.wanted), "found": .text($0.found)]
                    }),
            ]
        },
        "show": Verb(.readOnly) { engine, request in
            let text =
                try request.namedDocument().map { engine.configuration.shown(engine.configuration.text(of: $0)) }
                ?? engine.configuration.shownSite(
                    withOrigins: request.json["origins"] == true, at: DocumentPath(request.json["path"]?.text ?? ""))
            return [
                "site": .text(text), "name": .text(engine.configuration.siteName),
                "documents": .texts(engine.configuration.documents.given.map(\.rawValue)),
            ]
        },
        "plan": Verb(.readOnly) { engine, request in
            guard request.json["site"] != nil else {
                return [
                    "lines": .texts(engine.configuration.hidingSecrets(engine.applier.planLines)),
                    "nftables": engine.applier.rulesetDocument,
                ]
            }
            engine.previews.begin(
                try request.text("site"), as: try request.document(), name: request.name, for: request.connection)
            return nil
        },
        "apply": Verb(.customer) { engine, request in
            let (document, configuration) = (try request.changedDocument(), engine.configuration)
            let text = try request.text("site")
            return try engine.commit(for: request) {
                let meant = try configuration.meant(text, as: document, name: request.name)
                return try configuration.change(meant, as: document, name: request.name, user: request.user)
            }
        },
        "disks": Verb(.readOnly) { engine, request in
            let installation = try StickInstallation(places: engine.places)
            let name = request.json["disk"]?.text
            return [
                "disks": .list(
                    try name.map { [try installation.named($0).json] } ?? installation.candidates.map(\.json)),
                "says": StickProcess.lastWords.map { .text($0) } ?? .null,
            ]
        },
        "install-disk": Verb(.administrator) { engine, request in
            let disk = try StickInstallation(places: engine.places).named(try request.text("disk"))
            try engine.outside.install(onto: disk.device)
            return ["disk": disk.json]
        },
        "confirm": Verb(.customer) { engine, request in
            try engine.configuration.checkPending(changing: request.role.documents)
            return ["commit": .integer(try engine.configuration.confirm())]
        },
        "history": Verb(.readOnly) { engine, _ in ["commits": engine.configuration.history()] },
        "show-commit": Verb(.readOnly) { engine, request in
            let commit = try engine.configuration.store.commit(try request.number("number"))
            var entries = commit.json.object ?? [:]
            entries["site"] = .text(engine.configuration.shown(commit.site))
            entries["documents"] = .object(
                Dictionary(
                    commit.documents.given.map {
                        ($0.rawValue, .text(engine.configuration.shown(commit.documents[$0] ?? "")))
                    }
                ) { $1 })
            entries["diff"] = .texts(engine.configuration.changes(of: commit))
            return .object(entries)
        },
        "rollback": Verb(.customer) { engine, request in
            // An administrator rolls back all documents, unless he names one.
            let named = try request.namedDocument()
            let document = named == nil && request.role == .administrator ? nil : try request.changedDocument()
            let number = try request.number("number")
            return try engine.commit(for: request) {
                try engine.configuration.change(backTo: number, document, user: request.user)
            }
        },
        "get-data": Verb(.readOnly) { engine, request in
            let wanted = try DataRequest(request.json)
            engine.answers.add(request.connection) { background in
                background.run(try engine.stateData.reading(wanted, for: request)) { result in
                    engine.answer(
                        result.map { ["datastore": .text(wanted.datastore.rawValue), "data": $0] },
                        to: request.connection)
                }
            } failed: {
                engine.answer(.failure($0), to: request.connection)
            }
            return nil
        },
        "candidate": Verb(.readOnly) { engine, request in
            let document = try request.document()
            return [
                "site": .text(engine.configuration.shown(engine.configuration.candidateText(of: document))),
                "document": .text(document.rawValue),
            ]
        },
        "edit": Verb(.customer) { engine, request in
            try engine.configuration.edit(
                request.json["edits"]?.list ?? [], of: try request.changedDocument(), user: request.user)
            return [:]
        },
        "load": Verb(.customer) { engine, request in
            let document = try request.changedDocument()
            try engine.configuration.setCandidate(
                try engine.configuration.meant(
                    try request.text("site"), as: document, name: request.name, isCandidate: true),
                of: document, user: request.user)
            return [:]
        },
        "discard": Verb(.customer) { engine, request in
            try engine.configuration.discardCandidate(of: try request.changedDocument())
            return [:]
        },
        "diff": Verb(.readOnly) { engine, request in
            [
                "lines": .texts(
                    try engine.configuration.difference(
                        of: try request.document(), from: request.json["from"]?.integer,
                        to: request.json["to"]?.integer))
            ]
        },
        "check": Verb(.readOnly) { engine, request in
            let document = try request.document()
            engine.previews.begin(
                engine.configuration.candidateText(of: document), as: document, name: "candidate",
                for: request.connection)
            return nil
        },
        "subscribe": Verb(.readOnly) { engine, request in
            engine.events.follow(
                request.connection, after: request.json["cursor"]?.text, at: engine.clock.now)
            return nil
        },
        "commit": Verb(.customer) { engine, request in
            let (document, configuration) = (try request.changedDocument(), engine.configuration)
            return try engine.commit(for: request) {
                try configuration.candidateChange(
                    of: document, user: request.user, isForced: request.json["force"] == .boolean(true))
            } then: {
                configuration.candidateIsCommitted($0.documents[document] ?? "", of: document)
            }
        },
        "commands": Verb(.readOnly) { engine, _ in ["commands": engine.commands.list] },
        "values": Verb(.readOnly) { engine, request in
            [
                "values": .texts(
                    try engine.commands.values(
                        of: try request.number("argument"), plugin: try request.text("plugin"),
                        command: try request.text("command")))
            ]
        },
        "run": Verb(.readOnly) { engine, request in
            let run = try engine.commands.command(
                try request.text("plugin"), try request.text("command"), request.words(), for: request)
            if run.changes { engine.begin(request, as: "run") }
            engine.run(run, for: request)
            return nil
        },
        "explain-packet": Verb(.readOnly) { engine, request in try engine.explainer.explain(packet: request.json) },
        "explain": Verb(.readOnly) { engine, request in
            ["rules": .list(try engine.explainer.explain(try request.text("text")))]
        },
        "feeds": Verb(.readOnly) { engine, _ in ["feeds": engine.feeds.list] },
        "feed": Verb(.readOnly) { engine, request in
            ["members": try engine.feeds.members(of: try request.text("name"))]
        },
        "feed-change": Verb(.operator) { engine, request in
            let name = try request.text("deed")
            guard let deed = Feeds.Deed(rawValue: name) else {
                throw EngineError.unknown("deed", name, Feeds.Deed.allCases.map(\.rawValue))
            }
            let seconds = request.json["seconds"]?.integer
            guard seconds.map({ (1...31_622_400).contains($0) }) ?? true else {
                throw EngineError("seconds are 1 to 31622400, a year")
            }
            return [
                "members": .integer(
                    try engine.feeds.change(
                        try request.text("name"), deed, try request.text("members"), seconds: seconds))
            ]
        },
        "trace": Verb(.operator) { engine, request in try engine.traces.begin(request.json, for: request.user) },
        "traced": Verb(.operator, isAudited: false) { engine, _ in engine.traces.next() },
        "counters": Verb(.readOnly) { engine, _ in try engine.applier.counters() },
        "facts": Verb(.readOnly) { engine, _ in ["facts": try engine.facts.current().json] },
        "services": Verb(.readOnly) { engine, _ in ["services": .list(try engine.places.pidOne.services().map(\.json))]
        },
        "service": Verb(.operator) { engine, request in
            let (deed, name) = (try request.text("deed"), try request.text("name"))
            guard ["start", "stop", "restart"].contains(deed) else {
                throw EngineError.unknown("deed", deed, ["start", "stop", "restart"])
            }
            // Nobody but root could start it again.
            guard deed != "stop" || name != "engine" else { throw EngineError("the engine is not to be stopped") }
            if deed == "stop" { try request.demand(.administrator, for: "stop") }
            try engine.places.pidOne.tell("\(deed) \(name)")
            return [:]
        },
        "logs": Verb(.readOnly) { engine, _ in ["logs": .texts(engine.places.serviceLogs.names)] },
        "log": Verb(.readOnly) { engine, request in
            try engine.places.serviceLogs.read(
                try request.text("name"), from: request.json["from"]?.text, isRaw: request.json["raw"] == true)
        },
        "session": Verb(.readOnly) { engine, request in
            try engine.beginSession(request)
            return nil
        },
        // Asked before a text is read that the engine would not take.
        "may": Verb(.readOnly) { engine, request in
            let name = try request.text("request")
            try request.demand(Engine.verb(name).role, for: name)
            return [:]
        },
        "audit": Verb(.administrator, isAudited: false) { engine, request in
            let records = engine.audit.records(try AuditQuery(request.json))
            return [
                "records": .list(records.map(\.json)),
                "next": .integer(records.last?.number ?? request.json["after"]?.integer ?? 0),
            ]
        },
        "power": Verb(.administrator) { engine, request in
            let deed = try request.text("deed")
            guard ["reboot", "poweroff"].contains(deed) else {
                throw EngineError.unknown("deed", deed, ["reboot", "poweroff"])
            }
            engine.audit.flush()
            try engine.places.pidOne.tell(deed)
            return [:]
        },
        "factory-reset": Verb(.administrator) { engine, request in
            try FactoryReset(places: engine.places).demand(by: request.user)
            return [:]
        },
    ]

    private var status: JSON {
        var entries = configuration.status.object ?? [:]
        if !tables.lines.isEmpty { entries["load"] = .texts(tables.lines) }
        return .object(entries)
    }

    /// What subscribers are told of when it changes.
    var statusSubject: JSON {
        var entries = status.object ?? [:]
        // It counts down by itself.
        entries["rollback-in"] = nil
        return .object(entries)
    }

    /// What previews are made with now.
    func previewState() throws -> Previews.State {
        Previews.State(
            followed: configuration.documents,
            others: configuration.appliedDocuments ?? configuration.documents, facts: try facts.current(),
            now: clock.now)
    }
}
