import Documents
import Glibc
import PluginKit

extension Engine {
    /// Answers one request of the local socket (`docs/api.md`), now or later.
    func answer(_ json: JSON, _ connection: ClientConnection) {
        let caller = connection.caller
        do {
            let name = json["do"]?.text ?? ""
            guard let role = caller.role else {
                throw EngineError("\(caller.name) has no role on this box: root has, and the site's users")
            }
            guard let verb = Self.verbs[name] else {
                throw EngineError.unknown("request", name, Array(Self.verbs.keys))
            }
            let request = Request(json: json, user: caller.name, role: role, connection: connection)
            try request.demand(verb.role, for: name)
            if let answer = try verb.answer(self, request) { connection.answer(answer) }
        } catch {
            // A plugin may repeat a secret of a document that the caller must not read.
            connection.answer(["error": .text(hidingSecrets(["\(error)"])[0])])
        }
    }

    /// What is asked, and by whom.
    struct Request {
        let json: JSON
        let user: String
        let role: Role
        let connection: ClientConnection

        func demand(_ least: Role, for what: String) throws {
            guard role >= least else {
                throw EngineError("\(what) is for the role \(least.rawValue); \(user) has \(role.rawValue)")
            }
        }

        var name: String { json["name"]?.text ?? "site" }
        var comment: String { json["comment"]?.text ?? "" }

        /// The document that is meant: the one that the caller's role works on, unless the request
        /// names another.
        func document() throws -> SiteDocument { try namedDocument() ?? role.document }

        func namedDocument() throws -> SiteDocument? {
            guard let name = json["document"] else { return nil }
            guard let document = name.text.flatMap({ SiteDocument(rawValue: $0) }) else {
                throw EngineError.unknown(
                    "document", name.text ?? name.line, SiteDocument.allCases.map(\.rawValue))
            }
            return document
        }

        /// The same for a change.
        ///
        /// - Throws: when the role may not change it.
        func changedDocument() throws -> SiteDocument {
            let document = try document()
            guard role.documents.contains(document) else {
                let own = role.documents.map(\.rawValue).sorted().joined(separator: ", ")
                throw EngineError(
                    "\(user) has the role \(role.rawValue), which may change the document \(own) and not "
                        + "\(document.rawValue); leave out the document, or ask its owner")
            }
            return document
        }

        func text(_ key: String) throws -> String {
            guard let text = json[key]?.text else { throw EngineError("the request wants the text \"\(key)\"") }
            return text
        }

        func number(_ key: String) throws -> Int {
            guard let number = json[key]?.integer else { throw EngineError("the request wants the number \"\(key)\"") }
            return number
        }

        /// How long a commit waits for its confirmation, at most a day; nil when it needs none.
        func confirm() throws -> Int? {
            guard let value = json["confirm"] else { return nil }
            guard let seconds = value.integer, (1...86_400).contains(seconds) else {
                throw EngineError("confirm is a number of seconds from 1 to 86400, found \(value.line)")
            }
            return seconds
        }

        func words() -> [String] { (json["arguments"]?.list ?? []).compactMap(\.text) }
    }

    /// A request, and who may make it. An answer of nil comes later, by the request's connection.
    private struct Verb: Sendable {
        let role: Role
        let answer: @Sendable (Engine, Request) throws -> JSON?

        init(_ role: Role, _ answer: @escaping @Sendable (Engine, Request) throws -> JSON?) {
            (self.role, self.answer) = (role, answer)
        }
    }

    private static let verbs: [String: Verb] = [
        "status": Verb(.readOnly) { engine, _ in engine.status },
        "health": Verb(.readOnly) { engine, _ in ["probes": engine.probes.json] },
        "show": Verb(.readOnly) { engine, request in
            let text =
                try request.namedDocument().map { engine.shown(engine.text(of: $0)) }
                ?? engine.shownSite(
                    withOrigins: request.json["origins"] == true, at: DocumentPath(request.json["path"]?.text ?? ""))
            return [
                "site": .text(text), "name": .text(engine.siteName),
                "documents": .texts(engine.documents.given.map(\.rawValue)),
            ]
        },
        "plan": Verb(.readOnly) { engine, request in
            guard request.json["site"] != nil else {
                return [
                    "lines": .texts(engine.hidingSecrets(engine.planLines)), "nftables": engine.rulesetDocument,
                ]
            }
            engine.previews.begin(
                try request.text("site"), as: try request.document(), name: request.name, for: request.connection)
            return nil
        },
        "apply": Verb(.customer) { engine, request in
            let document = try request.changedDocument()
            try engine.checkPending(for: request)
            return Engine.answer(
                try engine.commit(
                    try engine.meant(try request.text("site"), as: document, name: request.name), as: document,
                    name: request.name, user: request.user, comment: request.comment, confirm: try request.confirm()))
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
            try engine.stick.install(onto: disk.device)
            return ["disk": disk.json]
        },
        "confirm": Verb(.customer) { engine, request in
            try engine.checkPending(for: request)
            return ["commit": .integer(try engine.confirm())]
        },
        "history": Verb(.readOnly) { engine, _ in ["commits": engine.history()] },
        "show-commit": Verb(.readOnly) { engine, request in
            let commit = try engine.store.commit(try request.number("number"))
            var entries = commit.json.object ?? [:]
            entries["site"] = .text(engine.shown(commit.site))
            entries["documents"] = .object(
                Dictionary(
                    commit.documents.given.map { ($0.rawValue, .text(engine.shown(commit.documents[$0] ?? ""))) }
                ) { $1 })
            entries["diff"] = .texts(engine.changes(of: commit))
            return .object(entries)
        },
        "rollback": Verb(.customer) { engine, request in
            // An administrator rolls back all documents, unless he names one.
            let named = try request.namedDocument()
            let document = named == nil && request.role == .administrator ? nil : try request.changedDocument()
            try engine.checkPending(for: request)
            return Engine.answer(
                try engine.rollBack(
                    to: try request.number("number"), document, user: request.user, confirm: try request.confirm()))
        },
        "get-data": Verb(.readOnly) { engine, request in
            let wanted = try DataRequest(request.json)
            return [
                "datastore": .text(wanted.datastore.rawValue), "data": try engine.data(wanted, for: request),
            ]
        },
        "candidate": Verb(.readOnly) { engine, request in
            let document = try request.document()
            return [
                "site": .text(engine.shown(engine.candidateText(of: document))), "document": .text(document.rawValue),
            ]
        },
        "edit": Verb(.customer) { engine, request in
            try engine.edit(
                request.json["edits"]?.list ?? [], of: try request.changedDocument(), user: request.user)
            return [:]
        },
        "load": Verb(.customer) { engine, request in
            let document = try request.changedDocument()
            try engine.setCandidate(
                try engine.meant(try request.text("site"), as: document, name: request.name, isCandidate: true),
                of: document, user: request.user)
            return [:]
        },
        "discard": Verb(.customer) { engine, request in
            try engine.discardCandidate(of: try request.changedDocument())
            return [:]
        },
        "diff": Verb(.readOnly) { engine, request in
            [
                "lines": .texts(
                    try engine.difference(
                        of: try request.document(), from: request.json["from"]?.integer,
                        to: request.json["to"]?.integer))
            ]
        },
        "check": Verb(.readOnly) { engine, request in
            let document = try request.document()
            engine.previews.begin(
                engine.candidateText(of: document), as: document, name: "candidate", for: request.connection)
            return nil
        },
        "subscribe": Verb(.readOnly) { engine, request in
            engine.events.follow(
                request.connection, after: request.json["cursor"]?.text, at: engine.now)
            return nil
        },
        "commit": Verb(.customer) { engine, request in
            let document = try request.changedDocument()
            try engine.checkPending(for: request)
            return Engine.answer(
                try engine.commitCandidate(
                    of: document, user: request.user, comment: request.comment, confirm: try request.confirm(),
                    isForced: request.json["force"] == .boolean(true)))
        },
        "commands": Verb(.readOnly) { engine, _ in ["commands": engine.operatorCommands] },
        "values": Verb(.readOnly) { engine, request in
            [
                "values": .texts(
                    try engine.values(
                        of: try request.number("argument"), plugin: try request.text("plugin"),
                        command: try request.text("command")))
            ]
        },
        "run": Verb(.readOnly) { engine, request in
            try engine.run(
                try request.text("plugin"), try request.text("command"), request.words(), for: request)
        },
        "explain-packet": Verb(.readOnly) { engine, request in try engine.explain(packet: request.json) },
        "explain": Verb(.readOnly) { engine, request in ["rules": .list(try engine.explain(try request.text("text")))]
        },
        "feeds": Verb(.readOnly) { engine, _ in ["feeds": engine.feedList()] },
        "feed": Verb(.readOnly) { engine, request in
            ["members": try engine.feedMembers(of: try request.text("name"))]
        },
        "feed-change": Verb(.operator) { engine, request in
            let name = try request.text("deed")
            guard let deed = Engine.FeedDeed(rawValue: name) else {
                throw EngineError.unknown("deed", name, Engine.FeedDeed.allCases.map(\.rawValue))
            }
            let seconds = request.json["seconds"]?.integer
            guard seconds.map({ (1...31_622_400).contains($0) }) ?? true else {
                throw EngineError("seconds are 1 to 31622400, a year")
            }
            return [
                "members": .integer(
                    try engine.change(
                        feed: try request.text("name"), deed, try request.text("members"), seconds: seconds))
            ]
        },
        "trace": Verb(.operator) { engine, request in try engine.trace(request.json, for: request.user) },
        "traced": Verb(.operator) { engine, _ in engine.traced() },
        "counters": Verb(.readOnly) { engine, _ in try engine.counters() },
        "facts": Verb(.readOnly) { engine, _ in ["facts": try engine.facts().json] },
        "services": Verb(.readOnly) { engine, _ in ["services": .list(try engine.pidOne.services().map(\.json))] },
        "service": Verb(.operator) { engine, request in
            let (deed, name) = (try request.text("deed"), try request.text("name"))
            guard ["start", "stop", "restart"].contains(deed) else {
                throw EngineError.unknown("deed", deed, ["start", "stop", "restart"])
            }
            // Nobody but root could start it again.
            guard deed != "stop" || name != "engine" else { throw EngineError("the engine is not to be stopped") }
            if deed == "stop" { try request.demand(.administrator, for: "stop") }
            try engine.pidOne.tell("\(deed) \(name)")
            return [:]
        },
        "logs": Verb(.readOnly) { engine, _ in ["logs": .texts(engine.serviceLogs.names)] },
        "log": Verb(.readOnly) { engine, request in
            try engine.serviceLogs.read(try request.text("name"), from: request.json["from"]?.text)
        },
        "power": Verb(.administrator) { engine, request in
            let deed = try request.text("deed")
            guard ["reboot", "poweroff"].contains(deed) else {
                throw EngineError.unknown("deed", deed, ["reboot", "poweroff"])
            }
            try engine.pidOne.tell(deed)
            return [:]
        },
        "factory-reset": Verb(.administrator) { engine, request in
            try engine.demandFactoryReset(by: request.user)
            return [:]
        },
    ]

    /// A commit that is not known to stand is confirmed or replaced by the next one.
    ///
    /// - Throws: when what has changed since the last good commit has documents that the caller may
    ///   not change.
    func checkPending(for request: Request) throws { try checkPending(changing: request.role.documents) }

    func checkPending(changing own: Set<SiteDocument>) throws {
        guard let number = head.pending?.commit else { return }
        let good = head.commit.flatMap { try? store.commit($0).documents } ?? SiteDocuments()
        let others = documents.changes(from: good).filter { !own.contains($0) }
        if others.isEmpty { return }
        throw EngineError(
            "commit \(number) changes the document \(others.map(\.rawValue).joined(separator: ", ")) and is not known "
                + "to stand yet; try again when it stands or is rolled back")
    }

    private var status: JSON {
        .object([
            "site": .text(siteName), "trouble": trouble.map { .text(hidingSecrets([$0])[0]) },
            "resources": .integer(applied.plan.ordered.count),
            "commit": followed.map { .integer($0) },
            "put-back-in": revertAt.map { .integer(max(0, $0 - Uptime.milliseconds) / 1000) },
            "probation": probation.map { .texts($0.names) },
            "put-back": lastRevert.map { .text($0) }, "drift": drift.found.isEmpty ? nil : .texts(drift.found),
            "damage": damage.map { .text($0) },
        ])
    }

    /// What others want to be told of when it changes.
    var statusSubject: JSON {
        var entries = status.object ?? [:]
        // It counts down by itself.
        entries["put-back-in"] = nil
        return .object(entries)
    }

    /// What previews are made with now.
    func previewState() throws -> Previews.State {
        Previews.State(
            followed: documents, others: appliedDocuments ?? documents, facts: try facts(), now: now)
    }

    /// Lines of the plan without secrets of the document.
    func hidingSecrets(_ lines: [String]) -> [String] {
        let applied = appliedDocuments.flatMap { try? siteReader.nodes(of: $0, name: "site") } ?? [:]
        return SecretMasks(of: [site] + applied.values).hide(lines)
    }

    static func answer(_ done: Committed) -> JSON {
        [
            "commit": .integer(done.number), "added": .integer(done.added), "removed": .integer(done.removed),
            "warnings": .texts(done.warnings), "probation": .texts(done.probation),
        ]
    }
}
